"""What a playbook works on: a board that is logged in to, what it is to become, the controller."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from playbooks.board_probe import BoardMachine, BoardPython, examine
from playbooks.connection import CommandResult, Host
from playbooks.errors import BadOrder, Unfit
from playbooks.wheels import Platform

OPT = "/opt/benchfarm"
STATE = "/var/lib/benchfarm"
UNIT = "benchfarm-agent.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
USER = "benchfarm"
MARK = f"{OPT}/board.json"
"""Whose board this is, and what of it was made here: written first, removed last."""
STARTED = f"{OPT}/started"
"""There while the running agent is the one that the files describe."""
STANDALONE = f"{OPT}/python"
AGENT = f"{OPT}/agent/bin/benchfarm-agent"
AGENT_PYTHON = f"{OPT}/agent/bin/python"

Note = Callable[[str], None]


@dataclass(frozen=True)
class KnownDevice:
    """What the controller knows of a device. ``joined``: it has a token of its own."""

    joined: bool
    online: bool = False
    seen_at: datetime | None = None
    runtimes: frozenset[str] = frozenset()
    """``backend version`` of those that answer there."""
    device_class: str = ""
    health: str = "unknown"
    uncheckable: str = ""
    """Why no health check could say anything of it; empty where one could, or none has ended."""


@dataclass(frozen=True)
class HealthCheckOutcome:
    """A health check that ran on the board. ``ok`` is ``None`` where it says nothing about it."""

    ok: bool | None
    reasons: tuple[str, ...] = ()


class PlaybookController(Protocol):
    """The controller, as far as a playbook needs it. Its errors pass through."""

    @property
    def url(self) -> str:
        """Where boards reach it."""
        ...

    @property
    def authority(self) -> str:
        """The certificate authority (PEM) by which boards trust it; empty: their own do."""
        ...

    def known(self, device: str) -> KnownDevice: ...

    def join_token(self, device: str, device_class: str) -> str:
        """A one-time token; for a device that has joined already it replaces what it had."""
        ...

    def classify(self, device: str, device_class: str) -> None:
        """Say what class a device that has joined is of."""
        ...

    def check_health(self, device: str, limit_s: float) -> HealthCheckOutcome | None:
        """Run a health check there and wait for its end; ``None``: not within ``limit_s``."""
        ...

    def retire(self, device: str) -> None:
        """Nothing where the device is not known any more."""
        ...


@dataclass
class BoardTarget:
    """One board in the works."""

    host: Host
    device: str
    device_class: str
    controller: PlaybookController
    cache: Path
    machine: BoardMachine
    python_archive: Path | None = None
    seen_before: datetime | None = field(default=None)
    """The last heartbeat before the agent was started by this run."""

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
        """Look at the machine anew."""
        self.machine = examine(self.host)

    def script(self, text: str, *, limit_s: float = 60.0, secret: str = "") -> CommandResult:
        """Run a shell script as root that ends at its first failure. Python writes no caches into
        the board's own folders."""
        prelude = "set -e; umask 022; export PYTHONDONTWRITEBYTECODE=1; cd /\n"
        return self.host.run(prelude + text, root=True, limit_s=limit_s, secret=secret)

    def as_agent(self, *words: str, secret: str = "", limit_s: float = 120.0) -> CommandResult:
        """Run a command as the agent's user, in its state folder."""
        command = shlex.join(words)
        return self.host.run(
            f"cd {STATE} && umask 077 && HOME={STATE} BENCHFARM_AGENT_HOME={STATE} {command}",
            user=USER,
            secret=secret,
            limit_s=limit_s,
        )

    def mark(self) -> dict[str, object]:
        """What ``MARK`` says; empty where there is none. Raises ``BadOrder``."""
        text = self.host.ask(f"cat {MARK} 2>/dev/null")
        try:
            found: dict[str, object] = json.loads(text) if text else {}
            return {"device": found["device"], **found} if found else {}
        except (ValueError, KeyError, TypeError):
            raise BadOrder(
                f"{self.host.name}: {MARK} is not as benchfarm writes it: remove it, if this is "
                "no board of another farm"
            ) from None

    def write(self, path: str, text: str) -> None:
        """Put ``text`` into a root-owned file, at once or not at all."""
        quoted = shlex.quote(path)
        self.script(f"cat > {quoted}.new; mv {quoted}.new {quoted}", secret=text)
