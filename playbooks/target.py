"""The board that a playbook works on: its SSH connection, its name and class, its controller."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from playbooks.board_probe import BoardMachine, BoardPython, examine
from playbooks.errors import InvalidRequest, Unfit
from playbooks.host import CommandResult, Host
from playbooks.waiting import Waiting, unseen
from playbooks.wheels import Platform

OPT = "/opt/benchfarm"
STATE = "/var/lib/benchfarm"
UNIT = "benchfarm-agent.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
USER = "benchfarm"
OWNERSHIP_FILE = f"{OPT}/board.json"
"""The device and controller that own the board: written first, removed last."""
STARTED = f"{OPT}/started"
"""Exists while the running agent matches the files; a step that changes them removes it."""
STANDALONE = f"{OPT}/python"
AGENT = f"{OPT}/agent/bin/benchfarm-agent"
AGENT_PYTHON = f"{OPT}/agent/bin/python"

MessageListener = Callable[[str], None]


@dataclass(frozen=True)
class KnownDevice:
    """What the controller knows of a device. ``joined``: it has a token of its own."""

    joined: bool
    online: bool = False
    seen_at: datetime | None = None
    runtimes: frozenset[str] = frozenset()
    """``backend version`` of the runtimes that answer on the device."""
    device_class: str = ""
    health: str = "unknown"
    uncheckable: str = ""
    """Why the last health check came to no result; empty if it did, or if none has ended."""
    former_name: str = ""
    """Its name before it was renamed, until its board has joined under the new one."""


@dataclass(frozen=True)
class HealthCheckOutcome:
    """A health check that ran on the board. ``ok`` is ``None`` if it came to no result."""

    ok: bool | None
    reasons: tuple[str, ...] = ()


class PlaybookController(Protocol):
    """The controller's functions that playbooks need. Its errors are not caught."""

    @property
    def url(self) -> str:
        """The URL at which boards reach it."""
        ...

    @property
    def authority(self) -> str:
        """The certificate authority (PEM) that boards must trust; empty: their own suffice."""
        ...

    def known(self, device: str) -> KnownDevice: ...

    def join_token(self, device: str, device_class: str) -> str:
        """A one-time token. Joining with it replaces the token that the device has."""
        ...

    def classify(self, device: str, device_class: str) -> None:
        """Set the class of a device that has joined."""
        ...

    def check_health(self, device: str, limit_s: float) -> HealthCheckOutcome | None:
        """Run a health check and wait for its end; ``None``: not within ``limit_s``."""
        ...

    def retire(self, device: str) -> None:
        """Retire the device; does nothing if it is unknown."""
        ...


@dataclass
class BoardTarget:
    """A board that is being provisioned."""

    host: Host
    device: str
    device_class: str
    controller: PlaybookController
    cache: Path
    machine: BoardMachine
    python_archive: Path | None = None
    waiting: Waiting = unseen
    heartbeat_before: datetime | None = field(default=None)
    """Time of the last heartbeat before this run started the agent."""

    @property
    def python(self) -> BoardPython:
        """The interpreter for the agent. Raises ``Unfit``."""
        if self.machine.python is None:
            raise Unfit(f"{self.host.name} has no Python that the agent runs on")
        return self.machine.python

    @property
    def platform(self) -> Platform:
        return Platform(self.machine.machine, self.python.version, self.machine.glibc)

    def examine(self) -> None:
        """Examine the machine again."""
        self.machine = examine(self.host)

    def script(self, text: str, *, limit_s: float = 60.0, secret: str = "") -> CommandResult:
        """Run a shell script as root; it ends at the first command that fails. Python writes no
        bytecode into the board's own folders."""
        prelude = "set -e; umask 022; export PYTHONDONTWRITEBYTECODE=1; cd /\n"
        return self.host.run(prelude + text, root=True, limit_s=limit_s, secret=secret)

    def as_agent(self, *words: str, secret: str = "", limit_s: float = 120.0) -> CommandResult:
        """Run a command as the agent's user, in the state folder."""
        command = shlex.join(words)
        return self.host.run(
            f"cd {STATE} && umask 077 && HOME={STATE} BENCHFARM_AGENT_HOME={STATE} {command}",
            user=USER,
            secret=secret,
            limit_s=limit_s,
        )

    def ownership(self) -> dict[str, object]:
        """The content of ``OWNERSHIP_FILE``; empty if there is none. Raises ``InvalidRequest``."""
        text = self.host.output(f"cat {OWNERSHIP_FILE} 2>/dev/null")
        try:
            found: dict[str, object] = json.loads(text) if text else {}
            return {"device": found["device"], **found} if found else {}
        except (ValueError, KeyError, TypeError):
            raise InvalidRequest(
                f"{self.host.name}: {OWNERSHIP_FILE} is not as benchfarm writes it: remove it, "
                "if this is no board of another farm"
            ) from None

    def write(self, path: str, text: str) -> None:
        """Write ``text`` to a file of root's, atomically."""
        quoted = shlex.quote(path)
        self.script(f"cat > {quoted}.new; mv {quoted}.new {quoted}", secret=text)
