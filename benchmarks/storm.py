"""A large farm under faults: a thousand played boards, a hundred thousand trials, one controller
with PostgreSQL and Redis, each of them killed, frozen and cut off as a seed says for as long as
there are trials to run. Then everything is healed, and nothing may be lost or doubled.

``python -m benchmarks.storm --boards 1000 --trials 100000 --seed S``; the boards are those of
``benchmarks.scale``, and ``storm_schedule`` says what may happen to them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis
from sqlalchemy.exc import SQLAlchemyError

from agent import broker
from benchmarks import scale
from benchmarks.outcome import Outcome, keep, of_rounds
from benchmarks.storm_schedule import OF_BOARDS, Fault, plan
from benchmarks.storm_servers import Servers, Service
from benchmarks.storm_verdict import Verdict, judge, logged, still_open
from orchestrator import wiring
from orchestrator.broker.redis_acl import RedisAcl
from orchestrator.client import Client
from orchestrator.domain import rate_control as rules
from orchestrator.domain.errors import FarmError
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps import sweeps
from orchestrator.settings import Settings

TIMES = {"HEARTBEAT_S": 2.0, "LEASE_S": 10.0, "DISPATCH_S": 20.0, "BEATS_PER_S": 100.0}
"""Settings of the controller: shorter than a farm's, or the faults would take hours."""
LANES = 2
"""Faults that may last at once."""
HEALED_S = 900.0
"""How long the farm has to come to its end once nothing fails any more."""
QUEUE_BOUND = 600
"""Doorbells that may wait for one device, those that were doubled on purpose included."""
FAULTS_AHEAD = 10_000


@dataclass
class Storm:
    """What one run has come to. ``faults``: how many of each kind."""

    seed: int
    boards: int
    wall_s: float = 0.0
    deepest: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seen: dict[str, Any] = field(default_factory=dict)
    rss_mib: list[tuple[int, float]] = field(default_factory=list)
    most_files: int = 0
    complaints: Counter[str] = field(default_factory=Counter)
    ended: list[int] = field(default_factory=list)

    def lines(self, verdict: Verdict) -> Iterator[str]:
        yield "faults: " + _words(self.faults)
        yield "boards: " + _words(self.seen.get("counts", {}))
        yield f"attempts: {verdict.attempts}; {_words(verdict.notes)}"
        if self.complaints:
            yield "PostgreSQL's errors: " + _words(self.complaints)
        lives: dict[int, list[float]] = {}
        for pid, mib in self.rss_mib:
            lives.setdefault(pid, []).append(mib)
        told = ", ".join(f"{found[-1]:.0f}" for found in lives.values() if len(found) > 5)
        most = max((mib for _, mib in self.rss_mib), default=0.0)
        yield (
            f"{self.boards} boards, {verdict.trials} trials in {self.wall_s:.0f} s: "
            f"{verdict.trials / max(self.wall_s, 1e-9):.1f}/s; the controller's memory at the end "
            f"of each life {told} MiB, {most:.0f} at most; {self.most_files} files open at most; "
            f"it ended by itself {len(self.ended)} times while something was away; the deepest "
            f"queue held {self.deepest}; {verdict.strays} uploads broken off"
        )


def _words(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


class Boards:
    """The process that plays them, asked line by line."""

    def __init__(self, orders: dict[str, Any], log: Path) -> None:
        words = [sys.executable, "-m", "benchmarks.storm_boards"]
        with log.open("ab") as err:
            self._process = subprocess.Popen(
                words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err
            )
        self._lock = threading.Lock()
        self._say(orders)
        if self._hear() != "ready\n":
            raise SystemExit(f"the boards could not begin; see {log}")

    def ask(self, kind: str, **more: Any) -> dict[str, Any]:
        """Raises ``OSError`` where they have ended."""
        with self._lock:
            self._say({"kind": kind, **more})
            answer: dict[str, Any] = json.loads(self._hear() or "null")
            if answer is None:
                raise BrokenPipeError("the boards have ended")
            return answer

    def _say(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()


class Run:
    """One farm from nothing to its verdict."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.storm = Storm(given.seed, given.boards)
        pace = rules.pace(
            TIMES["HEARTBEAT_S"], TIMES["LEASE_S"], TIMES["BEATS_PER_S"], given.boards
        )
        self.lease_s = pace.lease_s
        self.servers = Servers(folder, TIMES)
        self.orders: dict[str, Any] = {
            "trials": given.trials, "trial_s": given.trial_s,
            "past_lease_s": self.lease_s + 2, "url": self.servers.controller.server.url,
            "broker_url": self.servers.redis.server.url, "answers": str(folder / "answers.json"),
            "connections": 2 * given.boards,
        }  # fmt: skip
        self.over = threading.Event()
        self.wrong: list[str] = []
        self._began = time.monotonic()
        self._token = ""

    def note(self, line: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {line}", flush=True)

    def play(self) -> Verdict:
        """Raises what keeps the run from coming to a verdict."""
        with self.servers:
            settings = Settings(
                home=self.folder / "home",
                database_url=self.servers.postgres.server.url,
                broker_url=self.servers.redis.server.url,
                health_every_s=0,
            )
            doors = RedisAcl(settings.broker_url)
            farm = wiring.build_farm(settings, settings.broker_url, doors)
            self._token = scale.add_model(self.orders["url"], self.folder)
            names = [f"b{number}" for number in range(self.given.boards)]
            self.orders["boards"] = {n: scale.enrol(farm, n, settings.broker_url) for n in names}
            boards = Boards(self.orders, self.folder / "boards.log")
            try:
                return self._played(farm, boards)
            finally:
                boards.close()
                farm.database.close()
                doors.close()

    def _played(self, farm: FarmContext, boards: Boards) -> Verdict:
        total = 0
        each = max(1, -(-self.given.trials // (self.given.boards * self.given.sweeps)))
        for number in range(self.given.sweeps):
            spec = scale.SPEC.format(name=f"storm{number}", trials=each)
            sweeps.submit(farm, spec, "storm", yes_really=True)
            total += each * self.given.boards
        self.note(f"{self.given.boards} boards, {total} trials in {self.given.sweeps} sweeps")
        began = time.monotonic()
        schedule = plan(self.given.seed, FAULTS_AHEAD, self.given.every_s)
        with ThreadPoolExecutor(LANES) as pool:
            lanes = [pool.submit(self._lane, boards, schedule, lane) for lane in range(LANES)]
            try:
                self._wait_final(farm, boards, self.given.longest_s)
            finally:
                self.over.set()
            for lane in lanes:
                lane.result()
        self.servers.heal()
        boards.ask("heal")
        self.note("healed")
        self._wait_final(farm, boards, HEALED_S)
        self.storm.wall_s = time.monotonic() - began
        self._wait_quiet(boards)
        self.storm.seen = boards.ask("end")
        boards.close()
        return self._verdict(farm, total)

    def _verdict(self, farm: FarmContext, total: int) -> Verdict:
        servers, storm = self.servers, self.storm
        servers.stop_watching()
        try:
            code = servers.controller.end()
            if code:
                self.wrong.append(f"the controller ended with {code}")
        except TimeoutError as error:
            self.wrong.append(str(error))
        self.note("the boards and the controller have ended")
        home = self.folder / "home"
        verdict = judge(farm, total, Path(self.orders["answers"]), home / "blobs")
        storm.complaints = logged(
            servers.controller.server.log, servers.postgres.server.log, verdict
        )
        storm.rss_mib, storm.most_files = servers.rss_mib, servers.most_files
        storm.ended = servers.controller.ended
        # 1: something that it needs at its start was away
        self.wrong += [f"the controller ended by itself with {c}" for c in storm.ended if c != 1]
        if storm.deepest > QUEUE_BOUND:
            self.wrong.append(f"a device's queue held {storm.deepest} doorbells")
        verdict.wrong += self.wrong + self.storm.seen["wrong"]
        return verdict

    # --- the schedule

    def _lane(self, boards: Boards, schedule: list[Fault], lane: int) -> None:
        """Every ``LANES``-th fault. Each waits from the end of the one before it in its lane, so
        that a machine that is slow to come back has time to work, too."""
        for fault in schedule[lane::LANES]:
            if self.over.wait(LANES * fault.after_s):
                return
            self.note(str(fault))
            self.storm.faults[fault.kind] += 1
            try:
                self._apply(boards, fault)
            except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the verdict
                self.wrong.append(f"{fault.kind}: {type(error).__name__}: {error}")

    def _apply(self, boards: Boards, fault: Fault) -> None:
        if fault.kind in OF_BOARDS:
            boards.ask(**asdict(fault))
            self.over.wait(fault.lasts_s)
            return
        verb, _, rest = fault.kind.partition("_")
        if fault.kind == "cancel_and_resume":
            self._cancel_and_resume(fault)
        elif fault.kind == "flush_redis":
            with contextlib.suppress(redis.RedisError), self._queue() as client:
                client.flushall()
        elif fault.kind == "kill_postgres_backend":
            self.servers.postgres.kill_child(fault.draw)
        else:
            name, _, past_lease = rest.partition("_")
            service: Service = getattr(self.servers, name)
            lasts_s = self.lease_s + 2 if past_lease else fault.lasts_s
            {"kill": service.kill, "freeze": service.freeze}[verb](lasts_s)

    def _queue(self) -> redis.Redis:
        return redis.Redis(port=self.servers.redis.server.port, socket_timeout=10)

    def _cancel_and_resume(self, fault: Fault) -> None:
        running = [s.name for s in self._ask(lambda f: f.sweeps()) if s.state == "running"]
        if running:
            name = random.Random(fault.draw).choice(running)
            began = time.monotonic()
            self._ask(lambda farm: farm.cancel(name))
            middle = time.monotonic()
            self.over.wait(fault.lasts_s)
            resumed = time.monotonic()
            self._ask(lambda farm: farm.resume(name))
            self.note(
                f"{name}: cancelled in {middle - began:.1f} s, resumed in "
                f"{time.monotonic() - resumed:.1f} s"
            )

    def _ask(self, what: Callable[..., Any]) -> Any:
        """As a user who tries again until it is done."""
        deadline = time.monotonic() + 300
        while True:
            try:
                with Client(self.orders["url"], self._token) as client:
                    return what(client)
            except FarmError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    # --- waiting

    def _wait_final(self, farm: FarmContext, boards: Boards, within_s: float) -> None:
        """Until every trial is final; ``wrong`` where that takes longer."""
        deadline, last = time.monotonic() + within_s, 0.0
        left = -1
        while time.monotonic() < deadline:
            with contextlib.suppress(SQLAlchemyError):
                left = still_open(farm)
                if left == 0:
                    return
            self._look_at_queues()
            if time.monotonic() - last > 30:
                last, seen = time.monotonic(), boards.ask("status")
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

    def _wait_quiet(self, boards: Boards) -> None:
        """Until every result was answered for good and every queue is empty."""
        deadline = time.monotonic() + HEALED_S
        waiting = depth = -1
        while time.monotonic() < deadline:
            waiting, depth = boards.ask("status")["waiting"], self._look_at_queues()
            if waiting == 0 and depth == 0:
                return
            time.sleep(0.5)
        self.wrong.append(f"{waiting} results in outboxes, {depth} doorbells in one queue, at last")

    def _look_at_queues(self) -> int:
        """Doorbells in the deepest queue now; -1 where Redis does not say."""
        with contextlib.suppress(redis.RedisError), self._queue() as client:
            pipeline = client.pipeline(transaction=False)
            for name in self.orders["boards"]:
                pipeline.llen(broker.queue_name(name))
            depth = max(pipeline.execute())
            self.storm.deepest = max(self.storm.deepest, depth)
            return int(depth)
        return -1


def run(given: argparse.Namespace) -> tuple[Storm, Verdict]:
    """The folder with every log is kept where something is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="benchfarm-storm-", dir="/tmp"))
    running, good = Run(given, folder), False
    running.note(f"seed {given.seed}; logs in {folder}")
    try:
        verdict = running.play()
        good = verdict.good
    finally:
        if good:
            shutil.rmtree(folder, ignore_errors=True)
    for line in verdict.wrong[:40]:
        running.note(f"wrong: {line}")
    for line in running.storm.lines(verdict):
        running.note(line)
    if not good:
        running.note(f"kept: {folder}")
    return running.storm, verdict


def outcome(storm: Storm, verdict: Verdict) -> Outcome:
    """Lost and doubled trials over all; anything else that is wrong counts as one more."""
    bad = verdict.lost + verdict.doubled + bool(verdict.wrong)
    rss = [mib for _, mib in storm.rss_mib]
    return of_rounds(
        "scale_storm", [bad / verdict.trials], at_most=0.0,
        compared=f"lost and doubled over {verdict.trials} trials on {storm.boards} boards, "
        f"{storm.faults.total()} faults of {len(storm.faults)} kinds, seed {storm.seed}; "
        f"{verdict.trials / storm.wall_s:.0f}/s, {verdict.attempts} attempts, controller's memory "
        f"{statistics.median(rss):.0f} MiB, {max(rss):.0f} at most",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=40)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=-1, help="drawn where none is given")
    parser.add_argument("--sweeps", type=int, default=2, help="that share the trials")
    parser.add_argument("--trial-s", type=float, default=0.0, help="seconds that a trial takes")
    parser.add_argument("--every-s", type=float, default=10.0, help="between two faults, about")
    parser.add_argument("--longest-s", type=float, default=4 * 3600.0, help="of the storm")
    parser.add_argument("--keep", action="store_true", help="add the outcome to the results")
    given = parser.parse_args()
    if given.seed < 0:
        given.seed = random.SystemRandom().randrange(1 << 31)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are ended, too
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    storm, verdict = run(given)
    found = outcome(storm, verdict)
    keep(found) if given.keep else print(found.line)
    print(verdict.line(storm.faults.total(), given.seed), flush=True)
    sys.exit(0 if verdict.good else 1)


if __name__ == "__main__":
    main()
