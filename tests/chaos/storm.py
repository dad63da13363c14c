"""Faults on a large farm of simulated boards, for as long as there are trials to run.

One controller with PostgreSQL and Redis; then everything is healed, and no trial may be lost or
doubled.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.exc import SQLAlchemyError

from orchestrator import wiring
from orchestrator.broker.redis_acl import RedisAcl
from orchestrator.domain import rate_control
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps import sweeps
from orchestrator.settings import Settings
from support.servers import free_port
from support.simulated_farm import SPEC, add_model, enrol

from . import message_faults, server_faults
from .lanes import Lanes
from .processes import Postgres, Process, Redis, controller_environment
from .schedule import SIMULATED_BOARD_FAULTS, STORM_FAULTS, Fault, plan
from .servers import Servers, server_programs
from .verdict import Verdict, judge_logs, judge_storm, open_trials
from .world import BENCHFARM

HEARTBEAT_S, LEASE_S, BEATS_PER_S = 2.0, 10.0, 100.0
SETTINGS = {
    "HEARTBEAT_S": str(HEARTBEAT_S), "LEASE_S": str(LEASE_S), "DISPATCH_S": "20",
    "BEATS_PER_S": str(BEATS_PER_S), "HEALTH_EVERY_S": "0",
}  # fmt: skip
"""Settings of the controller, shorter than the defaults: faults would take hours otherwise. Health
checks are off: there is no runner that could run one."""
LANES = 2
DURATIONS_S = (0.3, 1.0, 3.0, 8.0)
HEALED_S = 900.0
"""How long the farm has to finish once every fault is over."""
QUEUE_BOUND = 600
"""Doorbells that may wait for one device, those that a fault doubled included."""
FAULTS_PLANNED = 10_000
OPEN_FILES = 1024
"""What a service manager lets a service open by default (systemd's ``DefaultLimitNOFILE``)."""


@dataclass(frozen=True)
class StormOptions:
    """``trials`` in ``sweeps`` sweeps on ``boards`` boards, ``trial_s`` seconds each; a fault about
    every ``every_s`` seconds, for ``longest_s`` seconds at most."""

    seed: int
    boards: int = 40
    trials: int = 2000
    sweeps: int = 2
    trial_s: float = 0.0
    every_s: float = 10.0
    longest_s: float = 4 * 3600.0


class BoardsProcess:
    """The process that simulates the boards: one JSON line per command, one per answer."""

    def __init__(self, config: dict[str, Any], log: Path) -> None:
        own = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        words = [sys.executable, "-m", "chaos.storm_boards"]
        with log.open("ab") as err:
            self._process = subprocess.Popen(
                words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, env=own
            )
        self._lock = threading.Lock()
        self._write(config)
        if self._read() != "ready\n":
            raise SystemExit(f"the boards could not begin; see {log}")

    def command(self, kind: str, **more: Any) -> dict[str, Any]:
        """Raises ``OSError`` where they have ended."""
        with self._lock:
            self._write({"kind": kind, **more})
            answer: dict[str, Any] = json.loads(self._read() or "null")
            if answer is None:
                raise BrokenPipeError("the boards have ended")
            return answer

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()


class ServiceManager:
    """Restarts servers that ended by themselves, and samples the controller each second.

    ``rss_mib``: (pid, resident memory) of each sample; ``most_files``: open at once."""

    def __init__(self, controller: Process, others: tuple[Process, ...]) -> None:
        self._controller, self._all = controller, (controller, *others)
        self.rss_mib: list[tuple[int, float]] = []
        self.most_files = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="service manager")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            for process in self._all:
                process.keep_up()
            with contextlib.suppress(psutil.Error):
                found = psutil.Process(self._controller.pid)
                self.rss_mib.append((found.pid, found.memory_info().rss / (1 << 20)))
                self.most_files = max(self.most_files, found.num_fds())


@dataclass
class StormRun:
    """What one run came to. ``wall_s``: from the first submitted trial to the last result."""

    options: StormOptions
    verdict: Verdict
    injected: Counter[str]
    wall_s: float
    rss_mib: list[tuple[int, float]]
    most_files: int
    own_exits: list[int]
    deepest_queue: int
    board_counts: dict[str, int]
    postgres_errors: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        verdict = self.verdict
        yield "faults: " + _listed(self.injected)
        yield "boards: " + _listed(self.board_counts)
        yield f"attempts: {verdict.attempts}; {_listed(verdict.notes)}"
        if self.postgres_errors:
            yield "PostgreSQL's errors: " + _listed(self.postgres_errors)
        lives: dict[int, list[float]] = {}
        for pid, mib in self.rss_mib:
            lives.setdefault(pid, []).append(mib)
        ends = ", ".join(f"{samples[-1]:.0f}" for samples in lives.values() if len(samples) > 5)
        most = max((mib for _, mib in self.rss_mib), default=0.0)
        yield (
            f"{self.options.boards} boards, {verdict.trials} trials in {self.wall_s:.0f} s: "
            f"{verdict.trials / max(self.wall_s, 1e-9):.1f}/s; the controller's memory at the end "
            f"of each life {ends} MiB, {most:.0f} at most; {self.most_files} files open at most; "
            f"it ended by itself {len(self.own_exits)} times while something was away; the deepest "
            f"queue held {self.deepest_queue}; {verdict.strays} uploads broken off"
        )


def _listed(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


class Storm(Servers):
    """One controller as ``benchfarm up`` starts it, on PostgreSQL and Redis, and its boards."""

    def __init__(self, options: StormOptions, folder: Path, note: Callable[[str], None]) -> None:
        self.options, self.folder, self.note = options, folder, note
        programs, redis_server = server_programs()
        postgres = Postgres(programs, folder / "postgres.log", durable=True)
        redis_ = Redis(redis_server, folder)
        home, port = folder / "home", free_port()
        own = controller_environment(home, postgres.url, redis_.url, SETTINGS)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        words: list[str | Path] = ["prlimit", f"--nofile={OPEN_FILES}:{hard}"]
        words += [BENCHFARM, "up", "--port", str(port)]
        controller = Process("controller", words, folder / "up.log", own)
        lease_s = rate_control.pace(HEARTBEAT_S, LEASE_S, BEATS_PER_S, options.boards).lease_s
        super().__init__(
            "127.0.0.1", postgres, redis_, [(controller, port)], home, past_lease_s=lease_s + 2
        )
        self.device_names = [f"b{number}" for number in range(options.boards)]
        self.answers = folder / "answers.json"
        self.wrong: list[str] = []
        self.boards: BoardsProcess

    def play(self) -> StormRun:
        """From nothing to the verdict. Raises where there can be none."""
        with contextlib.ExitStack() as stack:
            self.start(stack)
            assert self.postgres is not None
            assert self.redis is not None
            controller = self.controllers[0]
            manager = ServiceManager(controller, (self.postgres.process, self.redis.process))
            stack.callback(manager.stop)
            farm = self._farm(stack)
            boards = self.boards = self._boards(farm)
            stack.callback(boards.close)
            total = self._submit(farm)
            began = time.monotonic()
            with self._lanes(boards) as lanes:
                self._wait_final(boards, self.options.longest_s)
            self.heal_servers()
            boards.command("heal")
            self.note("healed")
            self._wait_final(boards, HEALED_S)
            wall_s = time.monotonic() - began
            self._wait_empty(boards)
            ended = boards.command("end")
            boards.close()
            manager.stop()
            self._end(controller)
            answers = json.loads(self.answers.read_text())
            verdict = judge_storm(self, total, answers, self.home / "blobs")
            errors = judge_logs(self.controllers, self.postgres.log, verdict)
            verdict.wrong += lanes.wrong + self.wrong + ended["wrong"]
            return StormRun(
                self.options, verdict, lanes.injected, wall_s, manager.rss_mib, manager.most_files,
                controller.own_exits, self.deepest_queue, ended["counts"], errors,
            )  # fmt: skip

    def _farm(self, stack: contextlib.ExitStack) -> FarmContext:
        """The farm without its API: for what rate limits would slow down."""
        settings = Settings(
            home=self.home,
            database_url=self.database_url,
            broker_url=self.broker_url,
            health_every_s=0,
        )
        acl = RedisAcl(self.broker_url, "")
        stack.callback(acl.close)
        farm = wiring.build_farm(settings, self.broker_url, acl)
        stack.callback(farm.database.close)
        return farm

    def _boards(self, farm: FarmContext) -> BoardsProcess:
        """Register the model, enrol every board and start them."""
        url = f"http://{self.host}:{self.ports[0]}"
        self.token = add_model(url, self.folder)
        enrolled = {name: enrol(farm, name, self.broker_url) for name in self.device_names}
        self.device_tokens = {name: own["token"] for name, own in enrolled.items()}
        config = {
            "boards": enrolled, "trials": self.options.trials, "trial_s": self.options.trial_s,
            "past_lease_s": self.past_lease_s, "url": url, "answers": str(self.answers),
            "connections": 2 * self.options.boards,
        }  # fmt: skip
        return BoardsProcess(config, self.folder / "boards.log")

    def first_answer(self, attempt_id: str) -> int | None:
        found: int | None = self.boards.command("answer", attempt_id=attempt_id)["answer"]
        return found

    def _submit(self, farm: FarmContext) -> int:
        """Submit every sweep; how many trials they have."""
        given = self.options
        each = max(1, -(-given.trials // (given.boards * given.sweeps)))
        for number in range(given.sweeps):
            spec = SPEC.format(name=f"storm{number}", trials=each)
            sweeps.submit(farm, spec, "storm", yes_really=True)
        total = each * given.boards * given.sweeps
        self.note(f"{given.boards} boards, {total} trials in {given.sweeps} sweeps")
        return total

    def _lanes(self, boards: BoardsProcess) -> Lanes:
        lane_s = LANES * self.options.every_s
        schedule = plan(
            self.options.seed, FAULTS_PLANNED, STORM_FAULTS, (0.5 * lane_s, 1.5 * lane_s),
            DURATIONS_S,
        )  # fmt: skip

        actions = {**server_faults.ACTIONS, **message_faults.ACTIONS}

        def inject(fault: Fault) -> None:
            if fault.kind in SIMULATED_BOARD_FAULTS:
                boards.command(**asdict(fault))
                time.sleep(fault.lasts_s)
            else:
                actions[fault.kind](self, fault)

        return Lanes(schedule, LANES, inject, self.note)

    def _end(self, controller: Process) -> None:
        try:
            code = controller.end(signal.SIGINT)
            if code:
                self.wrong.append(f"the controller ended with {code}")
        except AssertionError as error:
            self.wrong.append(str(error))
        self.note("the boards and the controller have ended")
        # 1: something that it needs at its start was away
        exits = [code for code in controller.own_exits if code != 1]
        self.wrong += [f"the controller ended by itself with {code}" for code in exits]
        if self.deepest_queue > QUEUE_BOUND:
            self.wrong.append(f"a device's queue held {self.deepest_queue} doorbells")

    # --- waiting

    def _wait_final(self, boards: BoardsProcess, within_s: float) -> None:
        """Until every trial is final; ``wrong`` where that takes longer."""
        deadline, last = time.monotonic() + within_s, 0.0
        left = -1
        while time.monotonic() < deadline:
            with contextlib.suppress(SQLAlchemyError), self.rows() as session:
                left = open_trials(session)
            if left == 0:
                return
            self.look_at_queues()
            if time.monotonic() - last > 30:
                last, seen = time.monotonic(), boards.command("status")
                self.note(
                    f"{left} trials are open; {seen['accepted']} results accepted, "
                    f"{seen['superseded']} superseded, {seen['waiting']} in outboxes; "
                    f"{seen['counts'].get('starts answered 200', 0)} starts, "
                    f"{seen['counts'].get('refused by Redis', 0)} refused by Redis, "
                    f"{seen['errors']} errors"
                )
                if seen["wrong"]:
                    self.note(f"wrong: {seen['wrong'][0]}")
            time.sleep(1)
        self.wrong.append(f"{left} trials were open after {within_s:.0f} s")

    def _wait_empty(self, boards: BoardsProcess) -> None:
        """Until every result has its final answer and every queue is empty."""
        deadline = time.monotonic() + HEALED_S
        waiting = depth = -1
        while time.monotonic() < deadline:
            waiting, depth = boards.command("status")["waiting"], self.look_at_queues()
            if waiting == 0 and depth == 0:
                return
            time.sleep(0.5)
        self.wrong.append(f"{waiting} results in outboxes, {depth} doorbells in one queue, at last")


def run_storm(options: StormOptions, say: Callable[[str], None]) -> StormRun:
    """The folder with every process' log is kept where something is wrong."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="benchfarm-storm-", dir="/tmp"))
    began, good = time.monotonic(), False

    def note(line: str) -> None:
        say(f"{time.monotonic() - began:7.1f} s  {line}")

    note(f"seed {options.seed}; logs in {folder}")
    try:
        run = Storm(options, folder, note).play()
        good = run.verdict.good
    finally:
        if good:
            shutil.rmtree(folder, ignore_errors=True)
    for line in run.verdict.wrong[:40]:
        note(f"wrong: {line}")
    for line in run.lines():
        note(line)
    if not good:
        note(f"kept: {folder}")
    return run
