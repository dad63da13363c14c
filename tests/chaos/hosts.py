"""Boards of the nspawn farm among the agents: the agent as ``device add`` installs it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from farm.board import BOOT_LIMIT_S, Board
from farm.commands import CommandFailed
from farm.farm import Farm
from orchestrator.broker.redis_acl import credentials_of, with_credentials

STATE = "var/lib/benchfarm"
AGENT = "benchfarm-agent.service"


class Host:
    """One board. A fault holds ``busy`` while it lasts."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.name = board.name
        self.busy = threading.Lock()

    @property
    def state(self) -> Path:
        """The agent's state folder, as a path of this machine."""
        return self.board.root / STATE

    def add(self, benchfarm: Path, environment: Mapping[str, str], key: Path) -> None:
        """Run ``benchfarm device add``."""
        self.board.wait_ssh()
        words = ["--ssh", f"bench@{self.board.address}", "--identity", str(key)]
        command = [str(benchfarm), "device", "add", self.name, *words, "--class", "x86-64-generic"]
        ended = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=300
        )
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"

    def go_through(self, uplink: str, broker: str) -> None:
        """Let the agent reach both servers through the proxies from now on."""
        path = self.state / "agent.json"
        found = json.loads(path.read_text())
        user, password = credentials_of(found["broker_url"])
        assert user, f"{self.name} was given no user of its own on Redis"
        found |= {"controller_url": uplink}
        found |= {"broker_url": with_credentials(broker, user, password)}
        path.write_text(json.dumps(found))
        self.board.inside(f"systemctl restart {AGENT}")

    def up(self) -> None:
        """Undo every fault: power, network, freeze, full disk."""
        if self.board.is_on():
            self.board.unhang()
        self.board.mend_network()
        self.board.empty_disk()
        self.board.on()
        self.board.wait_ssh(2 * BOOT_LIMIT_S)

    def end(self) -> list[str]:
        """Stop the agent's service; what is wrong then, in words."""
        self.board.inside(f"systemctl stop {AGENT}", limit_s=120)
        result = self.board.inside(f"systemctl show -p Result --value {AGENT}").strip()
        wrong = [] if result == "success" else [f"{self.name}: the agent ended with {result!r}"]
        running = self.board.inside("ps -u benchfarm -o args= || true").strip()
        wrong += [f"{self.name}: {line} is left" for line in running.splitlines()]
        left = [*(self.state / "attempts").iterdir(), *(self.state / "samples").iterdir()]
        wrong += [f"{self.name} has left {path}" for path in left]
        wrong += [f"{self.name}: the result of {a} was not delivered" for a in self._waiting()]
        try:
            said = self.board.inside(f"journalctl -q -u {AGENT} --no-pager")
        except CommandFailed as error:
            return [*wrong, str(error)]
        if "Exception in thread" in said:
            wrong.append(f"a thread of {self.name} has ended by itself: {said[-2000:]}")
        return wrong

    def _waiting(self) -> list[str]:
        outbox = sqlite3.connect(self.state / "outbox.sqlite")
        query = "SELECT attempt_id FROM results WHERE delivered_s IS NULL"
        waiting = [str(attempt) for (attempt,) in outbox.execute(query)]
        outbox.close()
        return waiting

    def is_idle(self) -> bool:
        """Whether it has no undelivered result and no unfinished attempt."""
        folders = (self.state / "samples", self.state / "attempts")
        return not any(any(folder.iterdir()) for folder in folders)


def hosts_of(farm: Farm | None) -> list[Host]:
    return [] if farm is None else [Host(board) for board in farm.boards.values()]


def command_line_of(home: Path) -> dict[str, str]:
    """The environment of ``benchfarm`` commands for the controller of ``home``."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("BENCHFARM_")}
    return {**own, "BENCHFARM_HOME": str(home)}
