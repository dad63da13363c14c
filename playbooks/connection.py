"""SSH to a board on Fabric: over the hops that ~/.ssh/config says, with pinned host keys.

Every host key is pinned, also those of jump hosts, and every operation has a time limit. An error
names the hop that it is about.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabric import Config, Connection
from paramiko import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    BadHostKeyException,
    ChannelException,
    SSHException,
    Transport,
)

from playbooks.authentication import FOR_JUMP_HOSTS, Authentication, Credentials
from playbooks.errors import InvalidRequest, PlaybookError, Unreachable
from playbooks.greeting import GreetedSocket
from playbooks.host import COMMAND_S, CommandResult, Host
from playbooks.host_keys import PinnedHostKeys
from playbooks.link_watch import LinkWatch
from playbooks.session import Session, plain
from playbooks.ssh_config import SSH_PORT, Hop, route
from playbooks.waiting import Waiting, unseen

__all__ = ["COMMAND_S", "CommandResult", "Host", "Login", "connected"]

CONNECT_S = 10
AUTH_LIMIT_S = 30
DEAD_LINK_S = 20
KEEP_ALIVE_S = 5

# its threads log what they also raise, with a traceback, and Python prints that where no handler is
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Login:
    """SSH login. ``target``: ``[USER@]HOST[:PORT]`` or an alias of ~/.ssh/config. ``identity``: a
    private key's file; empty: the keys of ssh-agent and of ~/.ssh. ``password`` is used if no key
    is accepted, and if sudo asks for one."""

    target: str
    identity: str = ""
    password: str = field(default="", repr=False)
    connect_s: int = CONNECT_S


@contextlib.contextmanager
def connected(login: Login, host_keys: PinnedHostKeys, waiting: Waiting = unseen) -> Iterator[Host]:
    """Log in; the connection is closed at the end of the block.

    Raises:
        InvalidRequest, Unreachable, HostKeyChanged, LoginRefused.
    """
    credentials = Credentials(_identity(login), login.password)
    *jumps, target = route(login.target, host_keys.on_message)
    with contextlib.ExitStack() as opened:
        before: _Opened | None = None
        first: socket.socket | None = None
        for hop in jumps:
            way = f"the jump host {hop.where} on the way to {target.name}"
            with waiting(_patience(way, hop, login)):
                before = _open(opened, hop, FOR_JUMP_HOSTS, login, host_keys, before, way)
            first = first or before.link
        with waiting(_patience(target.where, target, login)):
            reached = _open(opened, target, credentials, login, host_keys, before, "")
        name = f"{target.user}@{target.host}"
        watch = LinkWatch(first or reached.link, name, DEAD_LINK_S, waiting)
        opened.callback(watch.close)
        yield Host(Session(reached.transport, name, watch.tick), name, login.password)


@dataclass(frozen=True)
class _Opened:
    """A hop that is logged in to; ``link`` is its TCP socket, if it has one of its own."""

    hop: Hop
    transport: Transport
    link: socket.socket | None


def _identity(login: Login) -> Path | None:
    if not login.identity:
        return None
    path = Path(login.identity).expanduser()
    if not path.is_file():
        raise InvalidRequest(f"{path}: there is no such private key")
    return path


def _patience(what: str, hop: Hop, login: Login) -> str:
    return f"{what}, {hop.connect_s or login.connect_s} s for an answer"


def _open(
    opened: contextlib.ExitStack,
    hop: Hop,
    credentials: Credentials,
    login: Login,
    host_keys: PinnedHostKeys,
    before: _Opened | None,
    way: str,
) -> _Opened:
    """``way`` says in errors which host it is about, where that is not the target."""
    limit_s = hop.connect_s or login.connect_s
    try:
        while True:
            link, said = _link(opened, hop, limit_s, before)
            greeted = GreetedSocket(link)
            connection = _connection(hop, greeted, limit_s, Authentication(hop, credentials))
            opened.callback(connection.close)
            # Fabric alone accepts every host key
            host_keys.apply_to(connection.client, hop.known_hosts)
            try:
                connection.open()
                break
            except BadHostKeyException as error:
                refusal = host_keys.changed(error.hostname, error.key, error.expected_key)
                if refusal is not None:
                    raise refusal from None
            except (SSHException, OSError, EOFError) as error:
                fault = _fault(error, greeted, limit_s)
                if hop.proxy_command and greeted.silent:
                    fault = "does not answer"
                raise Unreachable(f"{hop.where} {fault}{said()}") from None
    except PlaybookError as error:
        if not way:
            raise
        raise type(error)(f"{way}: {error}") from None
    connection.transport.set_keepalive(KEEP_ALIVE_S)
    is_tcp = isinstance(link, socket.socket) and link.family != socket.AF_UNIX
    return _Opened(hop, connection.transport, link if is_tcp else None)


def _connection(
    hop: Hop, link: GreetedSocket, limit_s: float, authentication: Authentication
) -> Connection:
    """Fabric's connection over ``link``; what ~/.ssh/config says is in ``hop`` already."""
    found = Connection(
        hop.host,
        user=hop.user,
        port=SSH_PORT if hop.key_name else hop.port,
        config=Config(overrides={"load_ssh_configs": False}),
        connect_timeout=int(limit_s),
        connect_kwargs={
            "sock": link,
            "banner_timeout": limit_s,
            "auth_timeout": AUTH_LIMIT_S,
            "auth_strategy": authentication,
        },
    )
    found.host = hop.key_name or hop.host  # the name that its key is looked up by
    return found


def _fault(error: Exception, greeted: GreetedSocket, limit_s: float) -> str:
    """What a server did wrong that could be connected to."""
    found = greeted.fault(limit_s)
    if found:
        return found
    text = str(error) or type(error).__name__
    if "no acceptable" in text:
        return f"speaks no algorithm that is still safe: {text}"
    if isinstance(error, TimeoutError) or "No existing session" in text:
        return f"greets as an SSH server and does not go on within {limit_s:.0f} s"
    if isinstance(error, ConnectionError | EOFError) or "Negotiation failed" in text:
        return f"closes the connection while the encryption is agreed on ({text})"
    return f"is no SSH server that can be talked to: {text}"


def _link(
    opened: contextlib.ExitStack, hop: Hop, limit_s: float, before: _Opened | None
) -> tuple[Any, Any]:
    """A socket or channel to a hop, and a function that returns what its ProxyCommand said.

    Raises:
        Unreachable
    """
    if hop.proxy_command:
        return _proxied(opened, hop)
    if before is not None:
        return _forwarded(hop, limit_s, before), _nothing
    return _dialled(opened, hop, limit_s), _nothing


def _nothing() -> str:
    return ""


def _dialled(opened: contextlib.ExitStack, hop: Hop, limit_s: float) -> socket.socket:
    try:
        addresses = socket.getaddrinfo(hop.host, hop.port, hop.family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"{hop.host}: no such host ({why})") from None
    refused: list[str] = []
    for family, kind, protocol, _, address in addresses:
        link = socket.socket(family, kind, protocol)
        opened.callback(link.close)
        link.settimeout(limit_s)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a dead link ends within seconds, not hours
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_LINK_S * 1000)
        try:
            link.connect(address)
        except TimeoutError:
            refused.append(f"{hop.where} does not answer within {limit_s:.0f} s")
        except OSError as error:
            refused.append(f"{hop.where}: no SSH connection: {error.strerror or error}")
        else:
            return link
    raise Unreachable("; ".join(dict.fromkeys(refused)) or f"{hop.host}: no such host")


def _forwarded(hop: Hop, limit_s: float, before: _Opened) -> Any:
    jump = f"the jump host {before.hop.where}"
    try:
        return before.transport.open_channel(
            "direct-tcpip", (hop.host, hop.port), ("", 0), timeout=limit_s
        )
    except ChannelException as error:
        refused = error.code == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        raise Unreachable(
            f"{hop.where}: {jump} lets nobody through to it (AllowTcpForwarding and PermitOpen of "
            "its sshd)"
            if refused
            else f"{hop.where}: {jump} cannot reach it ({error.text})"
        ) from None
    except (SSHException, OSError, EOFError) as error:
        raise Unreachable(
            f"{hop.where}: {jump} reaches nothing there within {limit_s:.0f} s "
            f"({error or type(error).__name__})"
        ) from None


def _proxied(opened: contextlib.ExitStack, hop: Hop) -> tuple[socket.socket, Any]:
    ours, theirs = socket.socketpair()
    opened.callback(ours.close)
    log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the connection
    opened.callback(log.close)
    with theirs:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {hop.proxy_command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=log,
            start_new_session=True,
        )
    opened.callback(_end, process)

    def said() -> str:
        log.seek(0)
        text = plain(log.read(4096))
        ended = process.poll()
        status = f" ended with {ended}" if ended is not None else ""
        command = shlex.quote(hop.proxy_command)
        return f"; its ProxyCommand {command}{status}{f': {text}' if text else ''}"

    return ours, said


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
