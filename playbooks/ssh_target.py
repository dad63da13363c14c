"""``[USER@]HOST[:PORT]``, an alias of ~/.ssh/config, or ``ssh://[USER@]HOST[:PORT]``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from playbooks.errors import InvalidRequest

EXPECTED = "expected [USER@]HOST[:PORT], ssh://[USER@]HOST[:PORT] or an alias of ~/.ssh/config"
SHELL = frozenset("'`\"$;&<>|(){}\\*?!#~")
"""Never in a host's name: ~/.ssh/config may pass it to a shell (``ProxyCommand``)."""
_FORM = re.compile(
    r"(?:(?P<user>.+)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[^\[\]]+?))"
    r"(?::(?P<port>[^:\]]*))?"
)


@dataclass(frozen=True)
class SshTarget:
    """A ``user`` that is empty and a ``port`` that is ``None`` are those of ~/.ssh/config."""

    host: str
    user: str = ""
    port: int | None = None


def parse(text: str) -> SshTarget:
    """Raises ``InvalidRequest``."""
    rest = text.removeprefix("ssh://").rstrip("/") if text.startswith("ssh://") else text
    if not rest or rest != "".join(rest.split()) or rest.startswith("-") or "://" in rest:
        raise InvalidRequest(f"SSH target {text!r}: {EXPECTED}")
    user, _, address = rest.rpartition("@")
    if address.count(":") > 1 and not address.startswith("["):  # an IPv6 address without a port
        found = _FORM.fullmatch(f"{user}@[{address}]" if user else f"[{address}]")
    else:
        found = _FORM.fullmatch(rest)
    host = found["v6"] or found["host"] if found else ""
    bad = not host or host.startswith("-") or rest.startswith("@")
    # a user may be DOMAIN\\USER
    if found is None or bad or SHELL & {*host} or (SHELL - {"\\"}) & {*user}:
        raise InvalidRequest(f"SSH target {text!r}: {EXPECTED}; IPv6 with a port: [ADDRESS]:PORT")
    port = found["port"]
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InvalidRequest(f"SSH target {text!r}: the port {port!r} is not one of 1 to 65535")
    return SshTarget(host, found["user"] or "", int(port) if port else None)
