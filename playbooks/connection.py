"""SSH to a board on Fabric: logging in, becoming root, running commands, sending files.

Fabric by itself accepts any host key (of jump hosts too) and waits for ever on a dead link; here
every host is pinned, and everything has a time limit.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fabric import Connection
from invoke.exceptions import CommandTimedOut
from paramiko import (
    AuthenticationException,
    BadHostKeyException,
    PasswordRequiredException,
    SSHException,
)

from playbooks.errors import (
    BadOrder,
    BoardDiskFull,
    ConnectionLost,
    LoginRefused,
    NoRoot,
    PlaybookError,
    StepFailed,
    Unreachable,
)
from playbooks.host_keys import Pins

CONNECT_S = 10
COMMAND_S = 60.0
END_LIMIT_S = 5.0
DEAD_LINK_S = 20
_LOST = -1
"""paramiko's exit status of a channel that closed without one."""


@dataclass(frozen=True)
class Login:
    """How to get in. ``target``: ``[USER@]HOST[:PORT]`` or an alias of ~/.ssh/config. ``identity``:
    a private key's file; empty: the agent's and the usual ones. ``password`` serves the login where
    no key does, and sudo where it asks."""

    target: str
    identity: str = ""
    password: str = field(default="", repr=False)
    connect_s: int = CONNECT_S


@dataclass(frozen=True)
class CommandResult:
    """How a command ended, and what it printed."""

    exit_code: int
    out: str
    err: str

    @property
    def tail(self) -> str:
        """Its last words, on one line."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return "; ".join(lines[-4:])[-600:] or f"exit {self.exit_code}"


class _AtOnce(io.StringIO):
    """Invoke asks for one character in 10 ms, and takes all that it is given: 5 s for a file of
    500 characters otherwise."""

    def read(self, _size: int | None = -1) -> str:
        return super().read()


class Host:
    """A host that is logged in to."""

    def __init__(self, connection: Connection, password: str) -> None:
        self._connection = connection
        self._password = password
        self._sudo: str | None = None

    @property
    def name(self) -> str:
        """``user@address``, for messages."""
        return f"{self._connection.user}@{self._connection.host}"

    def ask(self, command: str, *, root: bool = False) -> str:
        """The command's output without blanks at its ends; it may fail."""
        return self.run(command, root=root, check=False).out.strip()

    def is_true(self, command: str, *, root: bool = False) -> bool:
        """Whether a test command exits 0."""
        return self.run(command, root=root, check=False).exit_code == 0

    def run(
        self,
        command: str,
        *,
        root: bool = False,
        user: str = "",
        secret: str = "",
        limit_s: float = COMMAND_S,
        check: bool = True,
    ) -> CommandResult:
        """Run a POSIX shell command, as root or as ``user`` if said; ``secret`` is its stdin.

        Raises:
            StepFailed: it exits otherwise than 0 (with ``check``), or takes longer than its limit.
            DiskFull: it failed for want of space. ConnectionLost: the board went away meanwhile.
            NoRoot: the login's user may not become root.
        """
        words, stdin = f"sh -c {shlex.quote(command)}", secret
        if user:
            words = f"runuser -u {shlex.quote(user)} -- {words}"
        if root or user:
            sudo = self._become_root()
            words = f"{sudo}{words}"
            stdin = f"{self._password}\n{secret}" if "-S" in sudo else secret
        said = self._execute(words, stdin, limit_s)
        if check and said.exit_code != 0:
            if "No space left on device" in said.err + said.out:
                raise BoardDiskFull(f"the disk of {self.name} is full: {said.tail}")
            raise StepFailed(f"{self.name}: {said.tail}")
        return said

    def stream(self, command: str, write: Callable[[bytes], object]) -> None:
        """Run a command as root and hand on its output as it comes, until it ends. If the block
        is left otherwise (``KeyboardInterrupt``), the command ends on the host first.

        Raises:
            StepFailed: it exits otherwise than 0. ConnectionLost, NoRoot.
        """
        sudo = self._become_root()
        # without a terminal nothing there hears of a Ctrl-C here: the end of stdin says it
        script = (
            f"exec 3<&0; {command} </dev/null & job=$!\n"
            "{ cat <&3; kill $job; } >/dev/null 2>&1 & wait $job"
        )
        try:
            channel = self._connection.transport.open_session()
            with contextlib.closing(channel):
                channel.exec_command(f"{sudo}sh -c {shlex.quote(script)}")
                if "-S" in sudo:
                    channel.sendall(f"{self._password}\n".encode())
                try:
                    while chunk := channel.recv(1 << 16):
                        write(chunk)
                finally:
                    channel.shutdown_write()
                    channel.status_event.wait(END_LIMIT_S)
                code = channel.recv_exit_status()
                said = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
        except (SSHException, OSError, EOFError) as error:
            raise ConnectionLost(
                f"{self.name} went away: {error or type(error).__name__}"
            ) from None
        if code == _LOST:
            raise ConnectionLost(f"{self.name} went away in the middle of a command")
        if code != 0:
            raise StepFailed(f"{self.name}: {said or f'exit {code}'}")

    def _execute(self, words: str, stdin: str, limit_s: float) -> CommandResult:
        try:
            ended = self._connection.run(
                words, hide=True, warn=True, in_stream=_AtOnce(stdin), timeout=limit_s
            )
        except CommandTimedOut:
            raise StepFailed(
                f"{self.name}: a command was not done within {limit_s:.0f} s"
            ) from None
        except (SSHException, OSError, EOFError) as error:
            raise ConnectionLost(
                f"{self.name} went away: {error or type(error).__name__}"
            ) from None
        if ended.exited == _LOST:
            raise ConnectionLost(f"{self.name} went away in the middle of a command")
        return CommandResult(ended.exited, ended.stdout, ended.stderr)

    def _become_root(self) -> str:
        """What stands before a command that root shall run; found out once.

        ``-k``: a password given a moment ago, or not, must not change what stdin is read for.
        """
        if self._sudo is None:
            if self._execute("test $(id -u) = 0", "", COMMAND_S).exit_code == 0:
                self._sudo = ""
            elif self._execute("sudo -k -n true", "", COMMAND_S).exit_code == 0:
                self._sudo = "sudo -n "
            else:
                self._sudo = self._sudo_by_password()
        return self._sudo

    def _sudo_by_password(self) -> str:
        if self._execute("command -v sudo", "", COMMAND_S).exit_code != 0:
            raise NoRoot(f"{self.name} is not root and the board has no sudo: log in as root")
        if not self._password:
            why = self._execute("sudo -k -n true", "", COMMAND_S).tail
            raise NoRoot(
                f"{self.name} may not become root without a password: give it by --ask-password, "
                f"or allow it in /etc/sudoers.d with NOPASSWD ({why})"
            )
        sudo = "sudo -k -S -p '' "
        said = self._execute(f"{sudo}true", f"{self._password}\n", COMMAND_S)
        if said.exit_code != 0:
            raise NoRoot(f"{self.name} may not become root with that password: {said.tail}")
        return sudo

    def send(self, source: Path, target: str) -> None:
        """Put a file of this machine into a folder of the login user's. Half a file never has its
        name. Raises ``BoardDiskFull``, ``StepFailed`` or ``ConnectionLost``."""
        try:
            sftp = self._connection.sftp()
            sftp.put(str(source), f"{target}.tmp")
            sftp.posix_rename(f"{target}.tmp", target)
        except (SSHException, EOFError, OSError) as error:
            if not self._connection.is_connected or isinstance(error, EOFError | TimeoutError):
                raise ConnectionLost(
                    f"{self.name} went away while {source.name} was sent"
                ) from None
            why = f"{self.name}: {source.name} could not be stored: {error}"
            free = self.free_mib(str(Path(target).parent))
            if free <= source.stat().st_size >> 20:
                raise BoardDiskFull(f"{why}; {free} MiB are free there") from None
            raise StepFailed(why) from None

    def free_mib(self, folder: str) -> int:
        """What is free on a folder's disk."""
        return int(self.run(f"df -Pm {shlex.quote(folder)} | tail -1").out.split()[3])


@contextlib.contextmanager
def connected(login: Login, pins: Pins) -> Iterator[Host]:
    """Log in, for as long as the block lasts.

    Raises:
        BadOrder, Unreachable, HostKeyChanged, LoginRefused.
    """
    connection = _build(login, pins)
    try:
        _open(connection, login, pins)
        _watch(connection)
        yield Host(connection, login.password)
    finally:
        connection.close()
        gateway = connection.gateway
        while isinstance(gateway, Connection):
            gateway.close()
            gateway = gateway.gateway


def _build(login: Login, pins: Pins) -> Connection:
    target = login.target
    if not target or target != "".join(target.split()) or target.startswith("-"):
        raise BadOrder(f"SSH target {target!r}: expected [USER@]HOST[:PORT]")
    options: dict[str, object] = {"banner_timeout": login.connect_s, "auth_timeout": 30}
    if login.identity:
        path = Path(login.identity).expanduser()
        if not path.is_file():
            raise BadOrder(f"{path}: there is no such private key")
        options |= {"key_filename": [str(path)], "look_for_keys": False, "allow_agent": False}
    if login.password:
        options["password"] = login.password
    try:
        connection = Connection(target, connect_timeout=login.connect_s, connect_kwargs=options)
    except ValueError as error:
        raise BadOrder(f"SSH target {target!r}: expected [USER@]HOST[:PORT]: {error}") from None
    hop: object = connection
    while isinstance(hop, Connection):
        hop.connect_timeout = hop.connect_timeout or login.connect_s
        pins.guard(hop.client)
        hop = hop.gateway
    return connection


def _open(connection: Connection, login: Login, pins: Pins) -> None:
    try:
        connection.open()
    except BadHostKeyException as error:
        refusal = pins.changed(error.hostname, error.key, error.expected_key)
        if refusal is not None:
            raise refusal from None
        again = _build(login, pins)
        connection.client, connection.gateway = again.client, again.gateway
        _open(connection, login, pins)
    except PlaybookError:
        raise
    except Exception as error:
        raise _named(error, connection, login) from error


def _named(error: Exception, connection: Connection, login: Login) -> Exception:
    """What went wrong while connecting, as the error that it means; others as they are."""
    where = f"{connection.user}@{connection.host}:{connection.port}"
    if isinstance(error, PasswordRequiredException):
        return LoginRefused(f"a private key for {where} is encrypted: add it to ssh-agent")
    if isinstance(error, AuthenticationException):
        tried = login.identity or "ssh-agent and the keys of ~/.ssh"
        tried += " and the password" if login.password else ""
        return LoginRefused(
            f"{where} refuses the login with {tried}: name a key by --identity, or give the "
            "password by --ask-password"
        )
    if isinstance(error, socket.gaierror):
        return Unreachable(f"{connection.host}: no such host ({error.strerror})")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} does not answer within {login.connect_s} s")
    if isinstance(error, SSHException) and "no acceptable" in str(error):
        return Unreachable(f"{where} speaks no algorithm that is still safe: {error}")
    if isinstance(error, SSHException | OSError | EOFError):
        return Unreachable(f"{where}: no SSH connection: {error or type(error).__name__}")
    return error


def _watch(connection: Connection) -> None:
    """A link that goes dead without a word ends the connection after seconds, not hours."""
    transport = connection.transport
    transport.set_keepalive(5)
    if isinstance(transport.sock, socket.socket) and hasattr(socket, "TCP_USER_TIMEOUT"):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_LINK_S * 1000)
