"""The farm under test: two controllers on one PostgreSQL and one Redis, or one as ``benchfarm up``
starts it, on SQLite with the broker that it brings; agents behind proxies."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import redis
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.child_jobs import Probed
from agent.worker.config import save
from agent.worker.isolation import proc_scan
from agent.worker.isolation.child_process import MARK
from agent.worker.state_dir import mark_of
from agent.worker.uplink import enrol
from farm.cache import keep_wheels
from farm.farm import Farm
from orchestrator.broker.redis_acl import credentials_of, with_credentials
from orchestrator.client import Client
from orchestrator.domain.errors import FarmError
from orchestrator.domain.trial import TrialState
from orchestrator.service.scheduling.dispatch import is_outstanding
from orchestrator.store.database import Database
from orchestrator.store.tables import SWEEP, Attempt, Device, Sweep, Trial
from support import onnx_files
from support.farms import runtime_facts
from support.servers import free_port

from .agent_process import CLOCK_FILE
from .clocks import Clock
from .hosts import Host, command_line_of, hosts_of
from .processes import PATIENCE_S, Postgres, Process, Redis, wait_listening
from .proxy import Proxy

T = TypeVar("T")
HERE = Path(__file__).parent
BENCHFARM = Path(sys.executable).parent / "benchfarm"
TIMES = {
    "BENCHFARM_HEARTBEAT_S": "0.7",
    "BENCHFARM_DISPATCH_S": "4",
    "BENCHFARM_TICK_S": "0.3",
    # all kinds of health checks come up: a board that fails two is well again once one is good
    "BENCHFARM_HEALTH_EVERY_S": "10",
    "BENCHFARM_HEALTH_RETRY_S": "1.5",
    "BENCHFARM_HEALTH_FRESH_S": "5",
}
LEASE_S = 5.0
PAST_LEASE_S = 6.0
SMALL_DISK_MIB = 560
"""More than a healthy board has to have free, and a result's worth."""
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


class World:
    """Everything that runs, and what a fault may do to it.

    ``servers``: the programs of PostgreSQL and of Redis; ``None``: the controller's own ones.
    ``farm``: its boards join, too."""

    def __init__(
        self,
        folder: Path,
        servers: tuple[Path, str] | None,
        farm: Farm | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self.folder, self.lease_s = folder, lease_s
        self.host = farm.network.gateway if farm is not None else "127.0.0.1"
        self.postgres = Postgres(servers[0]) if servers else None
        self.redis = Redis(servers[1], folder, self.host) if servers else None
        self.ports = [free_port() for _ in range(2 if servers else 1)]
        self.blobs = folder / "blobs"
        self.clocks: list[Clock] = []
        self.controllers = [self._controller(n, port) for n, port in enumerate(self.ports)]
        self.uplink = Proxy([(self.host, port) for port in self.ports], self.host)
        self.broker = Proxy([(self.host, self.redis.port)] if self.redis else [], self.host)
        self.boards: list[Board] = []
        self.farm, self.hosts = farm, hosts_of(farm)
        self.left_by_hosts: list[str] = []
        self.numbers: dict[str, int] = {}
        self.deepest_queue = 0
        self._mounts: list[Path] = []
        self._stack = contextlib.ExitStack()
        home = folder / "home0"
        self.broker_url = (
            self.redis.url if self.redis else f"redis+socket://{home}/redis.sock?virtual_host=0"
        )
        self.database = Database(
            self.postgres.url if self.postgres else f"sqlite:///{home}/benchfarm.sqlite3"
        )
        self.token = ""

    # --- from nothing to a farm that waits for work

    def open(self, agents: int, real: int) -> None:
        """Start everything; the last ``real`` agents measure with the real runner."""
        self._stack.callback(self.database.close)
        for server in (self.postgres, self.redis):
            if server is not None:
                self._stack.callback(server.close)
                server.start()
        if self.hosts:
            keep_wheels(self.folder / "home0")
        for controller in self.controllers:
            self._stack.callback(controller.kill)
            controller.start()  # at once: they take turns at making the tables
        for controller, port in zip(self.controllers, self.ports, strict=True):
            wait_listening(controller, port, self.host)
        self._stack.enter_context(self.uplink)
        self._stack.enter_context(self.broker)
        noted = self.folder / "home0" / "client.json"
        self.wait_for(noted.exists, "a controller's client.json")
        self.token = json.loads(noted.read_text())["token"]
        model = self.folder / "dense.onnx"
        model.write_bytes(onnx_files.dense_bytes())
        self.ask(lambda farm: farm.add_model(model, name="dense"))
        with ThreadPoolExecutor() as pool:
            adding = [pool.submit(self._add, host) for host in self.hosts]
            played = self._played_runner()
            for number in range(agents):
                self._join(number, None if number >= agents - real else played)
            for added in adding:
                added.result()
        for board in self.boards:
            board.restart()
        with self.rows() as session:
            self.numbers = {d.name: d.id for d in session.scalars(select(Device))}
        self.wait_for(self.all_well, "every board to pass its first health check")

    def _add(self, host: Host) -> None:
        assert self.farm is not None
        assert self.redis is not None
        host.add(BENCHFARM, command_line_of(self.folder / "home0"), self.farm.key)
        host.go_through(
            f"http://{self.host}:{self.uplink.port}", f"redis://{self.host}:{self.broker.port}/0"
        )

    def _controller(self, number: int, port: int) -> Process:
        own = {k: v for k, v in os.environ.items() if not k.startswith("BENCHFARM_")}
        home = self.folder / f"home{number}"
        home.mkdir()
        self.clocks.append(Clock(home))
        own |= {**TIMES, "BENCHFARM_LEASE_S": str(self.lease_s)}
        own |= self.clocks[-1].environment
        own |= {"BENCHFARM_HOME": str(home), "BENCHFARM_BLOBS_DIR": str(self.blobs)}
        if self.postgres is not None and self.redis is not None:
            own |= {"BENCHFARM_DATABASE_URL": self.postgres.url}
            own |= {"BENCHFARM_BROKER_URL": self.redis.url}
        words: list[str | Path] = [BENCHFARM, "up", "--host", self.host, "--port", str(port)]
        return Process(f"controller{number}", words, self.folder / f"controller{number}.log", own)

    def _played_runner(self) -> Path:
        """The played child, in a folder of its own beside what it answers when it is probed."""
        folder = self.folder / "runner"
        folder.mkdir()
        shutil.copy(HERE / "played_runner.py", folder / "__main__.py")
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

    # --- asking it

    def ask(self, what: Callable[[Client], T]) -> T:
        """Ask a controller, whichever answers first, as often as it takes."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for port in self.ports:
                try:
                    with Client(f"http://{self.host}:{port}", self.token) as client:
                        return what(client)
                except FarmError:
                    if time.monotonic() > deadline:
                        raise
            time.sleep(0.2)

    @contextlib.contextmanager
    def rows(self) -> Iterator[Session]:
        with self.database.read_session() as session:
            yield session

    def known_attempts(self) -> list[Attempt]:
        with self.rows() as session:
            return list(session.scalars(select(Attempt).order_by(Attempt.dispatched_at)))

    def queue(self) -> redis.Redis:
        if self.redis is None:
            socket = self.folder / "home0" / "redis.sock"
            return redis.Redis(unix_socket_path=str(socket), socket_timeout=10)
        return redis.Redis(self.host, self.redis.port, socket_timeout=10)

    def look_at_queues(self) -> None:
        """Note how deep the deepest queue is now."""
        with contextlib.suppress(redis.RedisError), self.queue() as client:
            for name in self.numbers:
                depth = int(client.llen(f"device.{name}"))
                self.deepest_queue = max(self.deepest_queue, depth)

    def submit(self, name: str, trials: int) -> None:
        def submit(farm: Client) -> None:
            if name not in {s.name for s in farm.sweeps()}:  # the answer may have been lost
                farm.submit(SPEC.format(name=name, trials=trials), "chaos")

        self.ask(submit)

    def finished(self, name: str) -> bool:
        return self.ask(lambda farm: farm.sweep(name)).state != "running"

    def resume_all(self) -> int:
        """Resume every sweep with trials that failed: those, and no other, run once more."""
        before = self._trials()
        failed = {number for number, (state, _) in before.items() if state == TrialState.FAILED}
        for sweep in self.ask(lambda farm: farm.sweeps()):
            self.ask(lambda farm, name=sweep.name: farm.resume(name))  # type: ignore[misc]
        after = self._trials()
        changed = {number for number in before if before[number] != after[number]}
        assert changed == failed, f"a resume touched {changed ^ failed}"
        return len(failed)

    def _trials(self) -> dict[int, tuple[str, int]]:
        """State and last attempt of every trial of a person's sweep, by its key."""
        mine = select(Trial).join(Sweep, Trial.sweep_id == Sweep.id).where(Sweep.kind == SWEEP)
        with self.rows() as session:
            return {t.id: (t.state, t.attempt) for t in session.scalars(mine)}

    def outstanding(self) -> int:
        """Trials that are with a device, health checks too."""
        with self.rows() as session:
            return len(session.scalars(select(Trial.id).where(is_outstanding())).all())

    def wait_for(
        self, what: Callable[[], bool], meaning: str, within_s: float = PATIENCE_S
    ) -> None:
        deadline = time.monotonic() + within_s
        while not what():
            assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain for {meaning}"
            time.sleep(0.2)

    def keep_up(self) -> None:
        """Start controllers that gave up, as a service manager does: one that starts while the
        database is away ends at once."""
        for controller in self.controllers:
            if not controller.down:
                controller.start()

    # --- the end

    def heal(self) -> None:
        """Undo every fault: from here on the farm must bring everything to its end by itself."""
        self.uplink.set("pass")
        self.broker.set("pass")
        for clock in [*self.clocks, *([self.postgres.clock] if self.postgres else [])]:
            clock.jump(0)
        if self.postgres is not None and self.redis is not None:
            self.postgres.start()
            self.redis.process.send(signal.SIGCONT)
            self.redis.start()
        for controller in self.controllers:
            controller.send(signal.SIGCONT)
            controller.start()
        for controller, port in zip(self.controllers, self.ports, strict=True):
            wait_listening(controller, port, self.host)
        for board in self.boards:
            (board.state / "filler").unlink(missing_ok=True)
            (board.state / CLOCK_FILE).unlink(missing_ok=True)  # a board that is off stays ill
            board.process.send(signal.SIGCONT)
            board.restart()
        for host in self.hosts:
            host.up()

    def stop(self) -> None:
        """End agents and controllers as a user does; each must say that all is well."""
        for board in self.boards:
            board.process.ask_end()
        for board in self.boards:
            assert board.process.wait() == 0, f"{board.name} did not end well; see {self.folder}"
        for host in self.hosts:
            self.left_by_hosts += host.end()
        # a health check that was just rung for comes back when its lease runs out
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
        """Take everything away, whatever state it is in."""
        for board in self.boards:
            board.process.send(signal.SIGCONT)
        self._stack.close()
        for board in self.boards:
            proc_scan.kill_marked(MARK, f"{mark_of(board.state)}:")
        for mount in self._mounts:
            subprocess.run(["umount", "-l", str(mount)], check=False)


def _mounted(folder: Path) -> bool:
    """A small disk on ``folder``, where this user may make one."""
    if os.geteuid() != 0:
        return False
    words = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m,mode=700", "tmpfs", str(folder)]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0
