"""Checks that the board reaches its controller, before anything is installed on it."""

from __future__ import annotations

import ipaddress
import shlex
from urllib.parse import urlsplit

from agent import tls
from playbooks.errors import Unfit
from playbooks.target import BoardTarget

ANSWER_LIMIT_S = 10

_SHAKE_HANDS = """
import socket, ssl, sys
context, authority = ssl.create_default_context(), sys.stdin.read()
if authority:
    context.load_verify_locations(cadata=authority)
with socket.create_connection((sys.argv[1], int(sys.argv[2])), {limit}) as connection:
    context.wrap_socket(connection, server_hostname=sys.argv[1])
"""
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), {limit})"


def require_controller(target: BoardTarget) -> None:
    """Raises ``Unfit`` if the board cannot resolve the controller's name or cannot reach it."""
    parts = urlsplit(target.controller.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    quoted = shlex.quote(host)
    if not _is_address(host) and not target.host.is_true(f"getent ahosts {quoted} >/dev/null"):
        raise Unfit(
            f"{target.host.name} cannot resolve the controller's name {host!r} "
            f"({target.controller.url}): name an address instead, --controller-url "
            f"{parts.scheme}://ADDRESS:{port}, or put {host} into the board's DNS or /etc/hosts"
        )
    if target.machine.python is None:  # one is installed later; joining will then test the network
        return
    code = shlex.quote(_CONNECT.format(limit=ANSWER_LIMIT_S))
    python = shlex.quote(target.machine.python.path)
    result = target.host.run(f"{python} -I -c {code} {quoted} {port}", check=False)
    if result.exit_code != 0:
        raise Unfit(
            f"{target.host.name} cannot reach the controller at {target.controller.url} "
            f"({_last_line(result.err)}): is port {port} let through, "
            "and is that the controller's address as boards see it? Else say --controller-url"
        )
    if parts.scheme == "https":
        _require_certificate(target, python, f"{quoted} {port}")


def _require_certificate(target: BoardTarget, python: str, where: str) -> None:
    """Raises ``Unfit`` if the board would refuse the controller's certificate."""
    code = shlex.quote(_SHAKE_HANDS.format(limit=ANSWER_LIMIT_S))
    authority = target.controller.authority
    result = target.host.run(f"{python} -I -c {code} {where}", check=False, secret=authority)
    if result.exit_code == 0:
        return
    clock = target.host.output("date -u '+the board says %Y-%m-%d %H:%M UTC'")
    found = tls.fault(result.err, authority="BENCHFARM_CA_FILE on this machine", clock=clock)
    if tls.UNTRUSTED in found and not authority:
        return  # the board's Python knows no authorities, perhaps; the agent brings some along
    raise Unfit(
        f"{target.host.name} reaches the controller at {target.controller.url}, but "
        f"{found or _last_line(result.err)}"
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no answer"])[-1]
