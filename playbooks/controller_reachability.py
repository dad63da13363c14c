"""The board finds its controller: asked before anything is installed on it."""

from __future__ import annotations

import ipaddress
import shlex
from urllib.parse import urlsplit

from playbooks.errors import Unfit
from playbooks.target import BoardTarget

ANSWER_LIMIT_S = 10

_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), {limit})"


def require_controller(site: BoardTarget) -> None:
    """Raises ``Unfit`` where the board does not know the controller's name, or cannot reach it."""
    parts = urlsplit(site.controller.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    quoted = shlex.quote(host)
    if not _is_address(host) and not site.host.is_true(f"getent ahosts {quoted} >/dev/null"):
        raise Unfit(
            f"{site.host.name} cannot resolve the controller's name {host!r} "
            f"({site.controller.url}): name an address instead, --controller-url "
            f"{parts.scheme}://ADDRESS:{port}, or put {host} into the board's DNS or /etc/hosts"
        )
    if site.machine.python is None:  # one is brought along; joining will tell
        return
    code = shlex.quote(_CONNECT.format(limit=ANSWER_LIMIT_S))
    python = shlex.quote(site.machine.python.path)
    said = site.host.run(f"{python} -I -c {code} {quoted} {port}", check=False)
    if said.exit_code != 0:
        raise Unfit(
            f"{site.host.name} cannot reach the controller at {site.controller.url} "
            f"({_last_line(said.err)}): is port {port} let through, "
            "and is that the controller's address as boards see it? Else say --controller-url"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no answer"])[-1]
