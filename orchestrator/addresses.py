"""By which address a controller with a certificate is reached: one that stands in it."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from orchestrator import certificates
from orchestrator.settings import LOOPBACK_OF_ANY, Settings

log = logging.getLogger(__name__)


def certified(settings: Settings) -> tuple[Settings, str]:
    """The settings, and the URL for this machine. With a certificate the URL, and
    ``controller_url`` unless it is given, have a name that the certificate is for: clients accept
    no other. Where there is none, a warning says so.

    Raises:
        UserError: the certificate cannot be read.
    """
    if settings.tls_certificate is None:
        return settings, settings.url
    names = certificates.names_in(settings.tls_certificate)
    usual = LOOPBACK_OF_ANY.get(settings.host, settings.host)
    local = _first(names, _local_names(settings, usual, names)) or usual
    if not settings.controller_url:
        settings = _with_public_name(settings, names)
    return settings, settings.url_of(local)


def _with_public_name(settings: Settings, names: Sequence[str]) -> Settings:
    any_host = settings.host in LOOPBACK_OF_ANY
    usual = socket.gethostname() if any_host else settings.host
    others = (n for n in _that_lead_here(settings, names) if not _is_loopback(n))
    found = _first(names, [usual]) or _first(names, others)
    if found is None:
        log.warning(
            "the certificate %s is for %s, not for %s, which boards are told: say where they reach "
            "this controller, BENCHFARM_CONTROLLER_URL=https://NAME:%d",
            settings.tls_certificate,
            ", ".join(names) or "no name",
            usual,
            settings.port,
        )
        return settings
    if found == usual:
        return settings
    return settings.model_copy(update={"controller_url": settings.url_of(found)})


def _local_names(settings: Settings, usual: str, names: Sequence[str]) -> Iterator[str]:
    """Names by which this machine may reach its own controller, the best first."""
    yield usual
    if _is_loopback(usual):
        yield "localhost"
    given = urlsplit(settings.controller_url)
    if (given.scheme, given.port or 443) == ("https", settings.port):  # no proxy before it
        yield given.hostname or usual
    yield from _that_lead_here(settings, names)


def _first(names: Sequence[str], hosts: Iterable[str]) -> str | None:
    return next((host for host in hosts if certificates.is_for(names, host)), None)


def _that_lead_here(settings: Settings, names: Sequence[str]) -> Iterator[str]:
    """Those of ``names`` that lead to the address on which this controller listens."""
    any_host = settings.host in LOOPBACK_OF_ANY
    for name in names:
        with contextlib.suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
            if any(_is_own(*f) if any_host else f[4][0] == settings.host for f in found):
                yield name


def _is_own(family: int, kind: int, protocol: int, _: str, address: tuple[object, ...]) -> bool:
    with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
        probe.bind(address)
        return True
    return False


def _is_loopback(name: str) -> bool:
    return name in ("localhost", "::1") or name.startswith("127.")
