"""A farm of agent processes behind proxies: two controllers on one PostgreSQL and one Redis, or
one controller with the embedded database and broker."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select

from agent.contract import codec
from agent.contract.child_jobs import Probed
from agent.worker.config import load, save
from agent.worker.isolation import proc_scan
from agent.worker.isolation.child_process import MARK
from agent.worker.state_dir import mark_of
from agent.worker.uplink import enrol
from farm.cache import keep_wheels
from farm.farm import Farm
from orchestrator.broker.redis_acl import credentials_of, with_credentials
from orchestrator.client import Client
from orchestrator.domain.trial import TrialState
from orchestrator.service.scheduling.dispatch import is_outstanding
from orchestrator.store.tables import SWEEP, Device, Sweep, Trial
from support import onnx_files
from support.farms import runtime_facts
from support.servers import free_port

from .agent_process import CLOCK_FILE
from .clocks import Clock
from .hosts import Host, command_line_of, hosts_of
from .processes import Postgres, Process, Redis, controller_environment
from .proxy import Proxy
from .servers import Servers

T = TypeVar("T")
HERE = Path(__file__).parent
BENCHFARM = Path(sys.executable).parent / "benchfarm"
SETTINGS = {
    "HEARTBEAT_S": "0.7",
    "DISPATCH_S": "4",
    "TICK_S": "0.3",
    # all kinds of health checks come up: a board that fails two is well again once one is good
    "HEALTH_EVERY_S": "10",
    "HEALTH_RETRY_S": "1.5",
    "HEALTH_FRESH_S": "5",
}
LEASE_S = 5.0
PAST_LEASE_S = 6.0
SMALL_DISK_MIB = 560
"""More free space than a health check demands, and room for one result."""
SPEC = """
name: {name}
models: [dense]
runtimes: [{{backend: onnxruntime}}]
trials: {trials}
attempts: 100
scenario: {{min_duration_s: 0.05, max_duration_s: 0.2, warm_up_s: 0.05, min_samples: 20}}
limits: {{trial_s: 60}}
"""


@dataclass
class Board:
    """One agent: its state folder and its process."""

    name: str
    state: Path
    process: Process
    small_disk: bool

    def children(self) -> list[int]:
        """Processes that carry this agent's mark."""
        mark = f"{MARK}={mark_of(self.state)}:".encode()
        return [pid for pid in proc_scan._pids() if proc_scan._has_mark(pid, mark)]

    def restart(self) -> None:
        self.process.start()


class World(Servers):
    """A farm of agent processes behind proxies, and everything that a fault may do to it.

    ``programs``: of PostgreSQL and Redis, for two controllers; ``None``: one controller on SQLite
    with its embedded broker. ``farm``: its boards join, too."""

    def __init__(
        self,
        folder: Path,
        programs: tuple[Path, str] | None,
        farm: Farm | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self.folder, self.lease_s = folder, lease_s
        host = farm.network.gateway if farm is not None else "127.0.0.1"
        postgres = redis_ = None
        if programs is not None:
            postgres = Postgres(programs[0], folder / "postgres.log", with_clock=True)
            redis_ = Redis(programs[1], folder, host)
        self.blobs = folder / "blobs"
        clocks: list[Clock] = []
        controllers = []
        for number in range(2 if programs else 1):
            home = folder / f"home{number}"
            home.mkdir()
            clocks.append(Clock(home))
            urls = (postgres.url, redis_.url) if postgres and redis_ else ("", "")
            more = {"LEASE_S": str(lease_s), "BLOBS_DIR": str(self.blobs)}
            own = controller_environment(home, *urls, {**SETTINGS, **more})
            own |= clocks[-1].environment
            port, name = free_port(), f"controller{number}"
            words: list[str | Path] = [BENCHFARM, "up", "--host", host, "--port", str(port)]
            controllers.append((Process(name, words, folder / f"{name}.log", own), port))
        super().__init__(host, postgres, redis_, controllers, folder / "home0", PAST_LEASE_S)
        self.clocks = clocks
        self.uplink = Proxy([(host, port) for port in self.ports], host)
        self.broker = Proxy([(host, redis_.port)] if redis_ else [], host)
        self.boards: list[Board] = []
        self.farm, self.hosts = farm, hosts_of(farm)
        self.left_by_hosts: list[str] = []
        self.device_ids: dict[str, int] = {}
        self._mounts: list[Path] = []
        self._stack = contextlib.ExitStack()

    # --- start

    def open(self, agents: int, real: int) -> None:
        """Start everything; the last ``real`` agents use the real runner, the others a fake."""
        if self.hosts:
            keep_wheels(self.home)
        self.start(self._stack)
        self._stack.enter_context(self.uplink)
        self._stack.enter_context(self.broker)
        noted = self.home / "client.json"
        self.wait_for(noted.exists, "a controller's client.json")
        self.token = json.loads(noted.read_text())["token"]
        model = self.folder / "dense.onnx"
        model.write_bytes(onnx_files.dense_bytes())
        self.ask(lambda farm: farm.add_model(model, name="dense"))
        with ThreadPoolExecutor() as pool:
            adding = [pool.submit(self._add, host) for host in self.hosts]
            fake = self._fake_runner()
            for number in range(agents):
                self._join(number, None if number >= agents - real else fake)
            for added in adding:
                added.result()
        for board in self.boards:
            board.restart()
        with self.rows() as session:
            self.device_ids = {d.name: d.id for d in session.scalars(select(Device))}
        self.device_names = list(self.device_ids)
        self.device_tokens = {b.name: load(b.state).token for b in self.boards}
        self.wait_for(self.all_well, "every board to pass its first health check")

    def _add(self, host: Host) -> None:
        assert self.farm is not None
        assert self.redis is not None
        host.add(BENCHFARM, command_line_of(self.home), self.farm.key)
        host.go_through(
            f"http://{self.host}:{self.uplink.port}", f"redis://{self.host}:{self.broker.port}/0"
        )

    def _fake_runner(self) -> Path:
        """A copy of the fake runner beside its answer to a probe."""
        folder = self.folder / "runner"
        folder.mkdir()
        shutil.copy(HERE / "fake_runner.py", folder / "__main__.py")
        facts = next(f for f in runtime_facts() if f.backend == "onnxruntime")
        (folder / "probed.json").write_text(codec.dumps(Probed((facts,))))
        return folder / "__main__.py"

    def _join(self, number: int, runner: Path | None) -> None:
        name = f"board{number}"
        state = self.folder / name
        state.mkdir()
        small = number == 0 and _mounted(state)
        if small:
            self._mounts.append(state)
        uplink = f"http://{self.host}:{self.uplink.port}"
        token = self.ask(lambda farm: farm.join_token(name)).join_token
        config = enrol.join(uplink, token, name, state)
        if self.redis is not None:
            user, password = credentials_of(config.broker_url)
            assert user, f"{name} was given no user of its own on Redis"
            proxied = f"redis://{self.host}:{self.broker.port}/0"
            config = replace(config, broker_url=with_credentials(proxied, user, password))
        save(config)
        words: list[str | Path] = [sys.executable, HERE / "agent_process.py", state]
        words += [runner] if runner else []
        own = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        process = Process(name, words, self.folder / f"{name}.log", own)
        self.boards.append(Board(name, state, process, small))
        self._stack.callback(process.kill)

    def all_well(self) -> bool:
        found = self.ask(lambda farm: farm.devices())
        return all(d.connection == "online" and d.health == "good" for d in found)

    # --- requests

    def submit(self, name: str, trials: int) -> None:
        def submit(farm: Client) -> None:
            if name not in {s.name for s in farm.sweeps()}:  # the answer may have been lost
                farm.submit(SPEC.format(name=name, trials=trials), "chaos")

        self.ask(submit)

    def finished(self, name: str) -> bool:
        return self.ask(lambda farm: farm.sweep(name)).state != "running"

    def resume_all(self) -> int:
        """Resume every sweep; only trials that failed may run again. How many they are."""
        before = self._trials()
        failed = {number for number, (state, _) in before.items() if state == TrialState.FAILED}
        for sweep in self.ask(lambda farm: farm.sweeps()):
            self.ask(lambda farm, name=sweep.name: farm.resume(name))  # type: ignore[misc]
        after = self._trials()
        changed = {number for number in before if before[number] != after[number]}
        assert changed == failed, f"a resume touched {changed ^ failed}"
        return len(failed)

    def _trials(self) -> dict[int, tuple[str, int]]:
        """State and last attempt number of every trial of a sweep, by its key; no health checks."""
        mine = select(Trial).join(Sweep, Trial.sweep_id == Sweep.id).where(Sweep.kind == SWEEP)
        with self.rows() as session:
            return {t.id: (t.state, t.attempt) for t in session.scalars(mine)}

    def outstanding(self) -> int:
        """Trials that are with a device, health checks included."""
        with self.rows() as session:
            return len(session.scalars(select(Trial.id).where(is_outstanding())).all())

    # --- the end

    def heal(self) -> None:
        """Undo every fault: from here on the farm must finish without help."""
        self.uplink.set("pass")
        self.broker.set("pass")
        self.heal_servers()
        for board in self.boards:
            (board.state / "filler").unlink(missing_ok=True)
            (board.state / CLOCK_FILE).unlink(missing_ok=True)  # a wrong clock fails health checks
            board.process.send(signal.SIGCONT)
            board.restart()
        for host in self.hosts:
            host.up()

    def stop(self) -> None:
        """End agents and controllers as a user does; each must exit with code 0."""
        for board in self.boards:
            board.process.ask_end()
        for board in self.boards:
            assert board.process.wait() == 0, f"{board.name} did not end well; see {self.folder}"
        for host in self.hosts:
            self.left_by_hosts += host.end()
        # a health check that was just dispatched returns when its lease runs out
        self.wait_for(lambda: not self.outstanding(), "the end of every lease")
        for controller in self.controllers:
            controller.ask_end(signal.SIGINT)
        for controller in self.controllers:
            code = controller.wait()
            assert code == 0, f"{controller.name} ended with {code}; see {self.folder}"

    def kill(self) -> None:
        """End agents and controllers at once."""
        for board in self.boards:
            board.process.kill()
        for controller in self.controllers:
            controller.kill()
        for host in self.hosts:
            host.board.cut_power()

    def close(self) -> None:
        """Remove everything, whatever its state."""
        for board in self.boards:
            board.process.send(signal.SIGCONT)
        self._stack.close()
        for board in self.boards:
            proc_scan.kill_marked(MARK, f"{mark_of(board.state)}:")
        for mount in self._mounts:
            subprocess.run(["umount", "-l", str(mount)], check=False)


def _mounted(folder: Path) -> bool:
    """Mount a small disk on ``folder``; whether this user may."""
    if os.geteuid() != 0:
        return False
    words = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m,mode=700", "tmpfs", str(folder)]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0
