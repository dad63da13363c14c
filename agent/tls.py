"""Whom a connection trusts, and why it trusts somebody not: for every connection to a controller or
a broker, whoever opens it."""

from __future__ import annotations

import re
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROBE_S = 2.0
UNTRUSTED = "it was signed by an authority that is not trusted here"
_REFUSED = "CERTIFICATE_VERIFY_FAILED"
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
_WANTS_CERTIFICATE = ("CERTIFICATE_REQUIRED", "certificate required")


class BadAuthority(ValueError):
    """The file of a certificate authority cannot be used; the message names it."""


def require_authority(ca_file: str) -> None:
    """Raises ``BadAuthority``: the file is not readable, or holds no certificate. Empty is fine."""
    trusting(ca_file)


def trusting(ca_file: str) -> ssl.SSLContext:
    """A client's context: trusts what this system trusts, and besides the authority in ``ca_file``
    (PEM; empty: none). Checks certificate and name. Raises ``BadAuthority``."""
    if _system_authorities():
        context = ssl.create_default_context()
    else:
        import httpx  # here: not every user of this file needs it

        context = httpx.create_ssl_context()  # with authorities of its own
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError:
            raise BadAuthority(
                f"certificate authority file {ca_file}: there is no certificate (PEM) in it"
            ) from None
        except OSError as error:
            raise BadAuthority(
                f"certificate authority file {ca_file}: {error.strerror or error}"
            ) from None
    return context


def redis_options(url: str, ca_file: str) -> dict[str, Any]:
    """The same for redis-py and kombu; empty where ``url`` is not a ``rediss://`` one. Left to
    itself kombu would check no certificate."""
    if not url.startswith("rediss:"):
        return {}
    options: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    return {**options, "ssl_ca_certs": ca_file} if ca_file else options


def fault(error: BaseException | str, *, authority: str, clock: str = "") -> str:
    """What is wrong between two ends that speak TLS, in words; empty: nothing that TLS knows of.

    ``authority``: the option that names another authority's file. ``clock``: what the client's
    clock says; empty: it is this machine's.
    """
    text = str(error)
    if _REFUSED in text:
        found = _why_refused(text, clock)
        remedy = f"; name that authority's file: {authority}" if UNTRUSTED in found else ""
        return f"its certificate is refused: {found}{remedy}"
    if any(word in text for word in _NO_TLS):
        return "it does not speak TLS there: another port, or an address without TLS?"
    if any(word in text for word in _WANTS_CERTIFICATE):
        return (
            "it asks for a client's certificate, and benchfarm has none: its clients have "
            "passwords and tokens (for Redis: --tls-auth-clients no)"
        )
    return ""


def is_meant(url: str) -> bool:
    """Whether a server that ended a connection to an ``http://`` address speaks TLS there."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return False
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent to it
    try:
        place = (parts.hostname, parts.port or 80)
        with (
            socket.create_connection(place, PROBE_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False


def _why_refused(text: str, clock: str) -> str:
    now = clock or f"this machine's clock says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if "has expired" in text:
        return (
            f"it has expired ({now}); whoever runs the server issues it again "
            "(`benchfarm ca issue`)"
        )
    if "not yet valid" in text:
        return f"it is not valid yet: {now}; set that, if it is wrong"
    other = re.search(r"certificate is not valid for '([^']*)'", text)
    if other:
        return (
            f"it is not for {other[1]}: use a name that stands in it, or issue it again with "
            f"--san {other[1]} (`benchfarm ca issue`)"
        )
    said = re.search(r"certificate verify failed: ([^(]+)", text)
    detail = said[1].strip() if said else ""
    return f"{UNTRUSTED} ({detail})" if detail else UNTRUSTED


def _system_authorities() -> bool:
    """Whether this system has authorities of its own; a bare board may lack ``ca-certificates``."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return True
    return bool(paths.capath) and any(Path(paths.capath).iterdir())
