"""A host that one is logged in to: becoming root, running commands, sending files."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from playbooks.errors import BoardDiskFull, NoRoot, StepFailed
from playbooks.session import Answer, Session

COMMAND_S = 60.0


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


class Host:
    """A host with an open SSH connection. ``name``: ``user@address``, for messages."""

    def __init__(self, session: Session, name: str, password: str) -> None:
        self._session = session
        self._name = name
        self._password = password
        self._sudo: str | None = None
        self.foreign = ""
        """What the login shell printed before the first command; a quiet one printed nothing."""

    @property
    def name(self) -> str:
        return self._name

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
            NoShell: the login shell did not run it.
            NoRoot: the login user may not become root.
        """
        prefix, stdin = "", secret
        if root or user:
            prefix = self._become_root()
            stdin = f"{self._password}\n{secret}" if "-S" in prefix else secret
        if user:
            prefix += f"runuser -u {shlex.quote(user)} -- "
        result = self._execute(command, prefix, stdin, limit_s)
        if check:
            self._require_success(result)
        return result

    def stream(self, command: str, write: Callable[[bytes], object]) -> None:
        """Run a command as root and pass its output to ``write`` as it arrives, until it ends. On
        another exception (``KeyboardInterrupt``) the command is first ended on the host.

        Raises:
            StepFailed: its exit code is not 0. ConnectionLost, NoShell, NoRoot.
        """
        sudo = self._become_root()
        # without a terminal no signal reaches the command: end of file on stdin ends it instead
        script = (
            f"exec 3<&0; {command} </dev/null & job=$!\n"
            "{ cat <&3; kill $job; } >/dev/null 2>&1 & wait $job"
        )
        stdin = f"{self._password}\n".encode() if "-S" in sudo else b""
        self._session.stream(script, sudo, stdin, write)

    def send(self, source: Path, target: str) -> None:
        """Copy a local file to the path ``target``, in a folder of the login user's, atomically.
        Raises ``BoardDiskFull``, ``StepFailed``, ``NoShell`` or ``ConnectionLost``."""
        # not by SFTP: most servers start its program by the login shell, whose output spoils it
        new, old = shlex.quote(f"{target}.tmp"), shlex.quote(target)
        with source.open("rb") as file:
            answer = self._session.run(f"cat > {new} && mv {new} {old}", file, None)
        if answer.exit_code == 0:
            return
        result = _result(answer)
        why = f"{self.name}: {source.name} could not be stored: {result.tail}"
        free = self.free_mib(str(Path(target).parent))
        if free <= source.stat().st_size >> 20:
            raise BoardDiskFull(f"{why}; {free} MiB are free there")
        raise StepFailed(why)

    def free_mib(self, folder: str) -> int:
        """Free space on the disk of a folder, in MiB."""
        result = self.run(f"df -Pm {shlex.quote(folder)} | tail -1")
        try:
            return int(result.out.split()[3])
        except (IndexError, ValueError):
            raise StepFailed(
                f"{self.name}: `df {folder}` said {result.tail!r}: expected a line with the free "
                "space"
            ) from None

    def _execute(self, command: str, prefix: str, stdin: str, limit_s: float) -> CommandResult:
        given: BinaryIO | None = io.BytesIO(stdin.encode()) if stdin else None
        answer = self._session.run(command, given, limit_s, prefix)
        self.foreign = self.foreign or answer.foreign
        return _result(answer)

    def _require_success(self, result: CommandResult) -> None:
        if result.exit_code == 0:
            return
        if "No space left on device" in result.err + result.out:
            raise BoardDiskFull(f"the disk of {self.name} is full: {result.tail}")
        raise StepFailed(f"{self.name}: {result.tail}")

    def _become_root(self) -> str:
        """The prefix that runs a command as root; determined once.

        ``-k`` ignores cached credentials, so that sudo reads the password from stdin always or
        never.
        """
        if self._sudo is None:
            if self._execute("test $(id -u) = 0", "", "", COMMAND_S).exit_code == 0:
                self._sudo = ""
            elif self._execute("true", "sudo -k -n ", "", COMMAND_S).exit_code == 0:
                self._sudo = "sudo -n "
            else:
                self._sudo = self._sudo_by_password()
        return self._sudo

    def _sudo_by_password(self) -> str:
        if self._execute("command -v sudo", "", "", COMMAND_S).exit_code != 0:
            raise NoRoot(f"{self.name} is not root and the board has no sudo: log in as root")
        why = self._execute("true", "sudo -k -n ", "", COMMAND_S).tail
        if "must have a tty" in why:
            user = self.name.partition("@")[0]
            raise NoRoot(
                f"sudo of {self.name} wants a terminal, and benchfarm has none there ({why}): say "
                f"`Defaults:{user} !requiretty` in /etc/sudoers.d"
            )
        if not self._password:
            raise NoRoot(
                f"{self.name} may not become root without a password: give it by --ask-password, "
                f"or allow it in /etc/sudoers.d with NOPASSWD ({why})"
            )
        sudo = "sudo -k -S -p '' "
        result = self._execute("true", sudo, f"{self._password}\n", COMMAND_S)
        if result.exit_code != 0:
            raise NoRoot(f"{self.name} may not become root with that password: {result.tail}")
        return sudo


def _result(answer: Answer) -> CommandResult:
    return CommandResult(answer.exit_code, answer.out, answer.err)
