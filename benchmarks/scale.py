"""Many simulated boards on one controller with PostgreSQL and Redis: throughput, idle boards,
memory, and what a trial costs as the farm grows. The boards speak the real queue and uplink, each
with its own token and its own user on Redis; health checks are off, for there is no child that
could run one. They are enrolled, and the sweep is submitted, past the API: its throttles would be
what is measured, for they share one address. They beat as often as the controller tells them to.

``python -m benchmarks.scale --help`` has the sizes; as one of all benchmarks it runs small.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import func, select

from agent.contract.api_messages import Enrolment
from agent.contract.conversion_graph import Node
from agent.contract.device import DeviceFacts, RuntimeFacts, TargetFacts
from benchmarks import scale_bare, scale_servers
from benchmarks.outcome import Outcome, keep, of_rounds
from orchestrator import wiring
from orchestrator.broker.redis_acl import RedisAcl
from orchestrator.cli import zoo
from orchestrator.client import Client
from orchestrator.client_file import read_client_file as noted_in
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import registration
from orchestrator.service.sweeps import sweeps
from orchestrator.settings import Settings
from orchestrator.store.tables import Attempt, Trial

SHARE_OF_BARE = 0.25
IDLE_SHARE = 0.1
TRIAL_S = 2.0
GROWTH = 1.5
MEMORY_GROWTH = 1.1
CONNECTIONS = 200
"""Of all boards together to the API, at most."""
LARGE = 1000
"""Boards: throughput and memory are of the longest run on so many at most."""
IDLE_S = 10.0
"""How long the boards are watched before they have anything to do."""
SPEC = """
name: {name}
models: [digits_cnn]
runtimes: [{{backend: onnxruntime}}]
trials: {trials}
attempts: 100
"""


@dataclass
class Run:
    """One size. Processor time is the controller's and PostgreSQL's: ``cost_ms`` of a trial, the
    heartbeats of every board meanwhile included; ``idle_ms`` a second before there was a trial.
    ``bares``: bare Celery's round trips a second, before and after."""

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
        """Of a trial, less what the same boards cost while they have none."""
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
    """A farm of that size from nothing, every board with its own token and its own user on Redis;
    and bare Celery's round trips beside it."""
    with (
        scale_servers.postgres(folder) as (database_url, postgres),
        scale_servers.redis(folder) as broker_url,
    ):
        bares = [scale_bare.round_trips_per_s(broker_url)]
        with scale_servers.controller(folder, database_url, broker_url) as (url, up):
            settings = Settings(
                home=folder / "home",
                database_url=database_url,
                broker_url=broker_url,
                health_every_s=0,
            )
            access = RedisAcl(broker_url)
            farm = wiring.build_farm(settings, broker_url, access)
            each = -(-trials // boards)
            orders = {
                "boards": {f"b{n}": enrol(farm, f"b{n}", broker_url) for n in range(boards)},
                "trials": each * boards, "trial_s": trial_s, "url": url,
                "connections": min(boards + 10, CONNECTIONS),
            }  # fmt: skip
            add_model(url, folder)

            def submit() -> None:
                # in the benchmark's process: planning a sweep is not what a trial costs
                sweeps.submit(
                    farm, SPEC.format(name="scale", trials=each), "benchmark", yes_really=True
                )

            found = _played(orders, submit, psutil.Process(up.pid), psutil.Process(postgres.pid))
            _check(farm, each * boards)
            farm.database.close()
            access.close()
        found.bares = [*bares, scale_bare.round_trips_per_s(broker_url)]
    return found


def add_model(url: str, folder: Path) -> str:
    """Register what ``SPEC`` measures, as a user does; the administrator's token."""
    config = folder / "home" / "client.json"
    while not config.exists():
        time.sleep(0.1)
    token = noted_in(config)["token"]
    with Client(url, token) as client:
        for file in zoo.emit("digits_cnn", folder):
            zoo.register(client, "digits_cnn", file)
    return token


def enrol(farm: FarmContext, name: str, broker_url: str) -> dict[str, str]:
    cpu = (TargetFacts("CPU", ("fp32",)),)
    wants: dict[str, tuple[Node, ...]] = {"fp32": (("onnx", "fp32"),)}
    runtime = RuntimeFacts("onnxruntime", "0", "played", cpu, ("onnx",), wants=wants)
    facts = DeviceFacts(name, "x86_64", "Linux", "3.11", runtimes=(runtime,))
    joined = registration.join_token(farm, name)
    enrolment = Enrolment(joined.join_token, name, "0", facts)
    enrolled = registration.enrol(farm, enrolment, broker_url)
    return {"token": enrolled.token, "broker_url": enrolled.broker_url}


def _played(
    orders: dict[str, Any],
    submit: Callable[[], None],
    up: psutil.Process,
    postgres: psutil.Process,
) -> Run:
    words = [sys.executable, "-m", "benchmarks.scale_boards"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.flush()
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the boards could not begin")
        idle_from = _spent_s(postgres) + _spent_s(up)
        time.sleep(IDLE_S)
        idle_ms = 1e3 * (_spent_s(postgres) + _spent_s(up) - idle_from) / IDLE_S
        submit()
        rss, stop = [_rss_mib(up)], threading.Event()
        before, before_up, began = _spent_s(postgres) + _spent_s(up), _spent_s(up), time.monotonic()

        def look() -> None:
            while not stop.wait(1.0):
                rss.append(_rss_mib(up))

        watching = threading.Thread(target=look)
        watching.start()
        told = process.stdout.read()
        wall_s = time.monotonic() - began
        stop.set()
        watching.join()
    if process.returncode:
        raise SystemExit("the boards gave up")
    seen, trials = json.loads(told), int(orders["trials"])
    spent_ms = 1e3 * (_spent_s(postgres) + _spent_s(up) - before)
    return Run(
        boards=len(orders["boards"]), trials=trials, wall_s=wall_s, cost_ms=spent_ms / trials,
        controller_ms=1e3 * (_spent_s(up) - before_up) / trials, idle_ms=idle_ms,
        idle_s=seen["idle_s"], rss_mib=rss, refused=seen["refused"], errors=seen["errors"],
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
    """Every trial done, each with one result that counts, or there is nothing to report."""
    with farm.database.read_session() as session:
        done = session.scalar(select(func.count()).where(Trial.state == "done"))
        counted = session.scalar(select(func.count()).where(Attempt.accepted))
        distinct = session.scalar(
            select(func.count(func.distinct(Attempt.trial_id))).where(Attempt.accepted)
        )
    if not done == counted == distinct == trials:
        raise SystemExit(f"{trials} trials, {done} done, {counted} accepted, {distinct} distinct")


def outcomes(sizes: list[tuple[int, int]], idle: tuple[int, int]) -> list[Outcome]:
    """Of trials without duration at each size; and of 2 s trials on ``idle`` boards."""
    waiting = _fresh(*idle, TRIAL_S)
    runs = [_fresh(boards, trials, 0.0) for boards, trials in sizes]
    # how fast one controller is, is asked of a farm of a thousand; larger ones show the curve
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
