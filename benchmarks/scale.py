"""Many simulated boards on one controller with PostgreSQL and Redis: throughput, idle boards,
memory, and the cost of a trial as the farm grows. The boards use the real queue and HTTP API, each
with its own token and its own Redis user; health checks are off, because there is no runner that
could run one. Boards are enrolled, and the sweep is submitted, without the API: its rate limits
would be what is measured, because all boards share one address. They send heartbeats as often as
the controller asks them to.

``python -m benchmarks.scale --help`` has the sizes; as one of all benchmarks it runs small.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import func, select

from benchmarks import scale_bare
from benchmarks.outcome import Outcome, keep, of_rounds
from chaos.processes import Postgres, Process, Redis, controller_environment, wait_listening
from orchestrator import wiring
from orchestrator.broker.redis_acl import RedisAcl
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps import sweeps
from orchestrator.settings import Settings
from orchestrator.store.tables import Attempt, Trial
from support import simulated_boards
from support.cli import BENCHFARM
from support.servers import free_port, postgres_programs, redis_program
from support.simulated_farm import SPEC, add_model, enrol

SHARE_OF_BARE = 0.25
IDLE_SHARE = 0.1
TRIAL_S = 2.0
GROWTH = 1.5
MEMORY_GROWTH = 1.1
CONNECTIONS = 200
"""Most connections to the API, of all boards together."""
LARGE = 1000
"""Throughput and memory are taken from the longest run on at most so many boards."""
IDLE_S = 10.0
"""How long the idle farm is measured before the sweep is submitted."""


@dataclass
class Run:
    """The measurements of one farm size. Processor time is the sum of the controller's and
    PostgreSQL's: ``cost_ms`` per trial, heartbeats of all boards included; ``idle_ms`` per second
    before the sweep was submitted. ``bares``: bare Celery's round trips a second, before and
    after."""

    boards: int
    trials: int
    wall_s: float
    cost_ms: float
    controller_ms: float
    idle_ms: float
    idle_s: list[float]
    rss_mib: list[float]
    refused: int
    errors: int
    bares: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        return self.trials / self.wall_s

    @property
    def own_ms(self) -> float:
        """Processor time of a trial, less the cost of the same boards while idle."""
        return self.cost_ms - self.idle_ms / self.per_s

    def line(self) -> str:
        return (
            f"scale: {self.boards} boards, {self.trials} trials in {self.wall_s:.1f} s: "
            f"{self.per_s:.1f}/s; {self.cost_ms:.2f} ms of processor a trial "
            f"({self.controller_ms:.2f} ms of it the controller's), {self.own_ms:.2f} ms without "
            f"the {self.idle_ms:.0f} ms a second of idle boards; memory {min(self.rss_mib):.0f}.."
            f"{max(self.rss_mib):.0f} MiB; {self.refused} refused, {self.errors} errors; bare "
            f"Celery {', '.join(f'{bare:.0f}' for bare in self.bares)}/s"
        )


def run(boards: int, trials: int, trial_s: float, folder: Path) -> Run:
    """Set up a farm of that size and run its trials; measure bare Celery before and after."""
    with contextlib.ExitStack() as stack:
        postgres, redis = _servers(folder, stack)
        bares = [scale_bare.round_trips_per_s(redis.url)]
        with _controller(folder, postgres.url, redis.url) as (url, up):
            settings = Settings(
                home=folder / "home",
                database_url=postgres.url,
                broker_url=redis.url,
                health_every_s=0,
            )
            acl = RedisAcl(redis.url, "")
            farm = wiring.build_farm(settings, redis.url, acl)
            each = -(-trials // boards)
            config = {
                "boards": {f"b{n}": enrol(farm, f"b{n}", redis.url) for n in range(boards)},
                "trials": each * boards, "trial_s": trial_s, "url": url,
                "connections": min(boards + 10, CONNECTIONS),
            }  # fmt: skip
            add_model(url, folder)

            def submit() -> None:
                # in the benchmark's process: planning a sweep is not what a trial costs
                sweeps.submit(
                    farm, SPEC.format(name="scale", trials=each), "benchmark", yes_really=True
                )

            found = _simulate(
                config, submit, psutil.Process(up.pid), psutil.Process(postgres.process.pid)
            )
            _check(farm, each * boards)
            farm.database.close()
            acl.close()
        found.bares = [*bares, scale_bare.round_trips_per_s(redis.url)]
    return found


def _servers(folder: Path, stack: contextlib.ExitStack) -> tuple[Postgres, Redis]:
    """PostgreSQL as Debian sets it up, commits flushed, and Redis; ``stack`` ends them."""
    programs, redis_server = postgres_programs(), redis_program()
    if programs is None or redis_server is None:
        raise SystemExit("this benchmark needs PostgreSQL (initdb) and redis-server")
    servers = (
        Postgres(programs, folder / "postgres.log", durable=True), Redis(redis_server, folder)
    )  # fmt: skip
    for server in servers:
        stack.callback(server.close)
        server.start()
    return servers


@contextlib.contextmanager
def _controller(folder: Path, database_url: str, broker_url: str) -> Iterator[tuple[str, Process]]:
    """``benchfarm up`` as a user runs it, without health checks: its URL and its process."""
    own = controller_environment(folder / "home", database_url, broker_url, {"HEALTH_EVERY_S": "0"})
    port = free_port()
    words: list[str | Path] = [BENCHFARM, "up", "--port", str(port)]
    process = Process("controller", words, folder / "up.log", own)
    process.start()
    try:
        wait_listening(process, port)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.end(signal.SIGINT)


def _simulate(
    config: dict[str, Any],
    submit: Callable[[], None],
    up: psutil.Process,
    postgres: psutil.Process,
) -> Run:
    words = [sys.executable, simulated_boards.__file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write(json.dumps(config) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the boards could not begin")
        idle_from = _spent_s(postgres) + _spent_s(up)
        time.sleep(IDLE_S)
        idle_ms = 1e3 * (_spent_s(postgres) + _spent_s(up) - idle_from) / IDLE_S
        submit()
        rss, stop = [_rss_mib(up)], threading.Event()
        before, before_up, began = _spent_s(postgres) + _spent_s(up), _spent_s(up), time.monotonic()

        def sample() -> None:
            while not stop.wait(1.0):
                rss.append(_rss_mib(up))

        sampling = threading.Thread(target=sample)
        sampling.start()
        output = process.stdout.read()
        wall_s = time.monotonic() - began
        stop.set()
        sampling.join()
    if process.returncode:
        raise SystemExit("the boards gave up")
    stats, trials = json.loads(output), int(config["trials"])
    spent_ms = 1e3 * (_spent_s(postgres) + _spent_s(up) - before)
    return Run(
        boards=len(config["boards"]), trials=trials, wall_s=wall_s, cost_ms=spent_ms / trials,
        controller_ms=1e3 * (_spent_s(up) - before_up) / trials, idle_ms=idle_ms,
        idle_s=stats["idle_s"], rss_mib=rss, refused=stats["refused"], errors=stats["errors"],
    )  # fmt: skip


def _spent_s(process: psutil.Process) -> float:
    """Processor seconds of a process, of its children, and of those that ended."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        if one is process:
            total += times.children_user + times.children_system
    return total


def _rss_mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / (1 << 20)


def _check(farm: FarmContext, trials: int) -> None:
    """Exit unless every trial is done with exactly one accepted result."""
    with farm.database.read_session() as session:
        done = session.scalar(select(func.count()).where(Trial.state == "done"))
        counted = session.scalar(select(func.count()).where(Attempt.accepted))
        distinct = session.scalar(
            select(func.count(func.distinct(Attempt.trial_id))).where(Attempt.accepted)
        )
    if not done == counted == distinct == trials:
        raise SystemExit(f"{trials} trials, {done} done, {counted} accepted, {distinct} distinct")


def outcomes(sizes: list[tuple[int, int]], idle: tuple[int, int]) -> list[Outcome]:
    """Trials without duration at each (boards, trials) of ``sizes``, and 2 s trials on ``idle``."""
    waiting = _fresh(*idle, TRIAL_S)
    runs = [_fresh(boards, trials, 0.0) for boards, trials in sizes]
    # the goals are for a farm of a thousand boards; larger ones only show the growth
    most = max((r for r in runs if r.boards <= LARGE), key=lambda r: r.trials, default=runs[0])
    small, large = runs[0], runs[-1]
    quarter = max(1, len(most.rss_mib) // 4)
    early, late = most.rss_mib[quarter : 2 * quarter] or most.rss_mib, most.rss_mib[-quarter:]
    return [
        of_rounds(
            "scale_throughput", [most.per_s / bare for bare in most.bares],
            at_least=SHARE_OF_BARE, at_most=float("inf"),
            compared=f"whole cycles over bare Celery no-ops, {most.per_s:.0f}/s over "
            f"{statistics.mean(most.bares):.0f}/s; {most.boards} boards, {most.trials} trials, "
            "none lost or doubled",
        ),
        of_rounds(
            "scale_idle", [s / TRIAL_S for s in waiting.idle_s], at_most=IDLE_SHARE,
            compared=f"wait for the next trial over a trial of {TRIAL_S:g} s, {waiting.boards} "
            f"boards, {len(waiting.idle_s)} waits, 95 % of them below "
            f"{1e3 * np.percentile(waiting.idle_s, 95):.0f} ms",
        ),
        of_rounds(
            "scale_cost", [large.own_ms / small.own_ms], at_most=GROWTH,
            compared="processor time a trial, largest farm over smallest, less what its boards "
            f"cost idle: {_curve(runs, 'own_ms')}; all of it: {_curve(runs, 'cost_ms')}",
        ),
        of_rounds(
            "scale_memory", [statistics.median(late) / statistics.median(early)],
            at_most=MEMORY_GROWTH,
            compared=f"controller's resident memory, last quarter of {most.trials} trials over the "
            f"second; {statistics.median(late):.0f} MiB at the end",
        ),
    ]  # fmt: skip


def _curve(runs: list[Run], what: str) -> str:
    return ", ".join(f"{r.boards}: {getattr(r, what):.1f} ms" for r in runs)


def _fresh(boards: int, trials: int, trial_s: float) -> Run:
    with tempfile.TemporaryDirectory(prefix="benchfarm-scale-", dir="/tmp") as folder:
        found = run(boards, trials, trial_s, Path(folder))
    print(found.line(), flush=True)
    return found


def measure() -> list[Outcome]:
    return outcomes([(10, 400), (50, 1000)], (20, 200))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10:400,50:1000", help="BOARDS:TRIALS, … ascending")
    parser.add_argument("--idle", default="20:200", help="BOARDS:TRIALS of two seconds each")
    given = parser.parse_args()
    sizes = [tuple(map(int, part.split(":"))) for part in given.sizes.split(",")]
    boards, trials = map(int, given.idle.split(":"))
    found = outcomes([(b, t) for b, t in sizes], (boards, trials))
    for outcome in found:
        keep(outcome)
    sys.exit(0 if all(outcome.met for outcome in found) else 1)


if __name__ == "__main__":
    main()
