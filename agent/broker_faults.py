"""What keeps a client from the broker: one sentence in place of a library's, and what to do."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from agent import tls

ADDRESS_REMEDY = (
    "BENCHFARM_BROKER_URL of the controller must name an address that boards reach, and on which "
    "Redis listens (`bind`)"
)

PLAIN_CLOSED = "is that Redis, and does it want TLS (rediss://)?"
TLS_CLOSED = (
    "is that Redis, and does it ask for a client's certificate? benchfarm has none, its clients "
    "have passwords (Redis: --tls-auth-clients no)"
)


def explain(error: BaseException | str, broker_url: str) -> str:
    """``error`` as a redis client raised it, for the broker at ``broker_url``."""
    text = str(error) or type(error).__name__
    where = place(broker_url)
    found = tls.fault(text, authority="BENCHFARM_CA_FILE, or `benchfarm-agent join --ca-file`")
    if found:
        return f"the broker at {where}: {found}"
    for pattern, words in _FAULTS:
        if re.search(pattern, text, re.IGNORECASE):
            closed = TLS_CLOSED if broker_url.startswith("rediss:") else PLAIN_CLOSED
            return words.format(where=where, address=ADDRESS_REMEDY, closed=closed)
    return f"the broker at {where}: {text.splitlines()[0]}"


def place(broker_url: str) -> str:
    """The broker's address without credentials: ``redis://farm:6379``."""
    parts = urlsplit(broker_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2] or parts.path}"


_FAULTS = (
    (
        "protected mode",
        "the broker at {where}: Redis is in protected mode and serves its own machine alone, "
        "because its default user is open. Close that with the file that `benchfarm broker acl "
        "--output FILE` writes, also before the first start (docs/security.md, The broker)",
    ),
    (
        "WRONGPASS|invalid username-password|invalid password",
        "the broker at {where}: Redis refuses user or password: BENCHFARM_BROKER_URL must be the "
        "one that `benchfarm broker acl` printed with the file that Redis has read; a board that "
        "was rotated or retired joins again (`benchfarm device add NAME`)",
    ),
    (
        "NOAUTH|Authentication required|HELLO must be called",
        "the broker at {where}: Redis wants user and password: BENCHFARM_BROKER_URL="
        "redis://USER:PASSWORD@HOST:PORT/0, as `benchfarm broker acl` prints it",
    ),
    (
        "Connection refused",
        "the broker at {where}: nothing listens there (connection refused). {address}",
    ),
    (
        "Name or service not known|nodename nor servname|Temporary failure in name|getaddrinfo"
        "|No address associated",
        "the broker at {where}: there is no host of that name here. {address}",
    ),
    (
        "timed out|Timeout|No route to host|Network is unreachable",
        "the broker at {where} does not answer ({address})",
    ),
    (
        "Connection closed by server|Connection reset by peer|Protocol Error|EOF occurred"
        "|Broken pipe",
        "the broker at {where} closes the connection: {closed}",
    ),
)
"""Pattern of a client's error → our sentence."""
