"""SSH to a board on Fabric: logging in, becoming root, running commands, sending files.

Fabric alone accepts any host key (also of jump hosts) and waits forever on a dead link. Here every
host key is pinned and every operation has a time limit.
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
    BoardDiskFull,
    ConnectionLost,
    InvalidRequest,
    LoginRefused,
    NoRoot,
    PlaybookError,
    StepFailed,
    Unreachable,
)
from playbooks.host_keys import PinnedHostKeys

CONNECT_S = 10
COMMAND_S = 60.0
END_LIMIT_S = 5.0
DEAD_LINK_S = 20
_NO_EXIT_STATUS = -1
"""paramiko's value for a channel that closed without an exit status."""


@dataclass(frozen=True)
class Login:
    """SSH login. ``target``: ``[USER@]HOST[:PORT]`` or an alias of ~/.ssh/config. ``identity``: a
    private key's file; empty: the keys of ssh-agent and of ~/.ssh. ``password`` is used if no key
    is accepted, and if sudo asks for one."""

    target: str
    identity: str = ""
    password: str = field(default="", repr=False)
    connect_s: int = CONNECT_S


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command."""

    exit_code: int
    out: str
    err: str

    @property
    def tail(self) -> str:
        """The last four lines of its output, on one line."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return "; ".join(lines[-4:])[-600:] or f"exit {self.exit_code}"


class _WholeInput(io.StringIO):
    """Stdin for Invoke, which reads one character every 10 ms (5 s for 500 characters): ``read``
    returns all of the text at once."""

    def read(self, _size: int | None = -1) -> str:
        return super().read()


class Host:
    """A host with an open SSH connection."""

    def __init__(self, connection: Connection, password: str) -> None:
        self._connection = connection
        self._password = password
        self._sudo: str | None = None

    @property
    def name(self) -> str:
        """``user@address``, for messages."""
        return f"{self._connection.user}@{self._connection.host}"

    def output(self, command: str, *, root: bool = False) -> str:
        """The command's stdout, stripped; its exit code is ignored."""
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
        """Run a POSIX shell command, as root or as ``user`` if given; ``secret`` is its stdin.

        Raises:
            StepFailed: its exit code is not 0 (with ``check``), or it takes longer than its limit.
            BoardDiskFull: it failed because the disk is full.
            ConnectionLost: the connection broke.
            NoRoot: the login user may not become root.
        """
        words, stdin = f"sh -c {shlex.quote(command)}", secret
        if user:
            words = f"runuser -u {shlex.quote(user)} -- {words}"
        if root or user:
            sudo = self._become_root()
            words = f"{sudo}{words}"
            stdin = f"{self._password}\n{secret}" if "-S" in sudo else secret
        result = self._execute(words, stdin, limit_s)
        if check and result.exit_code != 0:
            if "No space left on device" in result.err + result.out:
                raise BoardDiskFull(f"the disk of {self.name} is full: {result.tail}")
            raise StepFailed(f"{self.name}: {result.tail}")
        return result

    def stream(self, command: str, write: Callable[[bytes], object]) -> None:
        """Run a command as root and pass its output to ``write`` as it arrives, until it ends. On
        another exception (``KeyboardInterrupt``) the command is first ended on the host.

        Raises:
            StepFailed: its exit code is not 0. ConnectionLost, NoRoot.
        """
        sudo = self._become_root()
        # without a terminal no signal reaches the command: end of file on stdin ends it instead
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
                message = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
        except (SSHException, OSError, EOFError) as error:
            raise ConnectionLost(
                f"{self.name} went away: {error or type(error).__name__}"
            ) from None
        if code == _NO_EXIT_STATUS:
            raise ConnectionLost(f"{self.name} went away in the middle of a command")
        if code != 0:
            raise StepFailed(f"{self.name}: {message or f'exit {code}'}")

    def _execute(self, words: str, stdin: str, limit_s: float) -> CommandResult:
        try:
            ended = self._connection.run(
                words, hide=True, warn=True, in_stream=_WholeInput(stdin), timeout=limit_s
            )
        except CommandTimedOut:
            raise StepFailed(
                f"{self.name}: a command was not done within {limit_s:.0f} s"
            ) from None
        except (SSHException, OSError, EOFError) as error:
            raise ConnectionLost(
                f"{self.name} went away: {error or type(error).__name__}"
            ) from None
        if ended.exited == _NO_EXIT_STATUS:
            raise ConnectionLost(f"{self.name} went away in the middle of a command")
        return CommandResult(ended.exited, ended.stdout, ended.stderr)

    def _become_root(self) -> str:
        """The prefix that runs a command as root; determined once.

        ``-k`` ignores cached credentials, so that sudo reads the password from stdin always or
        never.
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
        result = self._execute(f"{sudo}true", f"{self._password}\n", COMMAND_S)
        if result.exit_code != 0:
            raise NoRoot(f"{self.name} may not become root with that password: {result.tail}")
        return sudo

    def send(self, source: Path, target: str) -> None:
        """Copy a local file to the path ``target``, in a folder of the login user's, atomically.
        Raises ``BoardDiskFull``, ``StepFailed`` or ``ConnectionLost``."""
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
        """Free space on the disk of a folder, in MiB."""
        return int(self.run(f"df -Pm {shlex.quote(folder)} | tail -1").out.split()[3])


@contextlib.contextmanager
def connected(login: Login, host_keys: PinnedHostKeys) -> Iterator[Host]:
    """Log in; the connection is closed at the end of the block.

    Raises:
        InvalidRequest, Unreachable, HostKeyChanged, LoginRefused.
    """
    connection = _build(login, host_keys)
    try:
        _open(connection, login, host_keys)
        _detect_dead_link(connection)
        yield Host(connection, login.password)
    finally:
        connection.close()
        gateway = connection.gateway
        while isinstance(gateway, Connection):
            gateway.close()
            gateway = gateway.gateway


def _build(login: Login, host_keys: PinnedHostKeys) -> Connection:
    target = login.target
    if not target or target != "".join(target.split()) or target.startswith("-"):
        raise InvalidRequest(f"SSH target {target!r}: expected [USER@]HOST[:PORT]")
    options: dict[str, object] = {"banner_timeout": login.connect_s, "auth_timeout": 30}
    if login.identity:
        path = Path(login.identity).expanduser()
        if not path.is_file():
            raise InvalidRequest(f"{path}: there is no such private key")
        options |= {"key_filename": [str(path)], "look_for_keys": False, "allow_agent": False}
    if login.password:
        options["password"] = login.password
    try:
        connection = Connection(target, connect_timeout=login.connect_s, connect_kwargs=options)
    except ValueError as error:
        raise InvalidRequest(
            f"SSH target {target!r}: expected [USER@]HOST[:PORT]: {error}"
        ) from None
    hop: object = connection
    while isinstance(hop, Connection):
        hop.connect_timeout = hop.connect_timeout or login.connect_s
        host_keys.apply_to(hop.client)
        hop = hop.gateway
    return connection


def _open(connection: Connection, login: Login, host_keys: PinnedHostKeys) -> None:
    try:
        connection.open()
    except BadHostKeyException as error:
        refusal = host_keys.changed(error.hostname, error.key, error.expected_key)
        if refusal is not None:
            raise refusal from None
        again = _build(login, host_keys)
        connection.client, connection.gateway = again.client, again.gateway
        _open(connection, login, host_keys)
    except PlaybookError:
        raise
    except Exception as error:
        raise _named(error, connection, login) from error


def _named(error: Exception, connection: Connection, login: Login) -> Exception:
    """Translate an error of connecting into a named one; unknown ones are returned unchanged."""
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


def _detect_dead_link(connection: Connection) -> None:
    """Close the connection within seconds, not hours, if the link dies silently."""
    transport = connection.transport
    transport.set_keepalive(5)
    if isinstance(transport.sock, socket.socket) and hasattr(socket, "TCP_USER_TIMEOUT"):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_LINK_S * 1000)
