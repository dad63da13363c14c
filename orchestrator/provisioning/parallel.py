"""Runs one job for each board, several at a time; a job that fails does not stop the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Report = TypeVar("Report")

TICK_S = 0.2


class JobInterrupted(Exception):
    """The user interrupted; raised in a job at its next report."""


class Notice:
    """Base of reports from within a step: they never end a job."""


@dataclass(frozen=True)
class JobOutcome(Generic[T]):
    """``value`` if the job succeeded, else ``error``. ``seconds`` 0: it was not started."""

    value: T | None = None
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def stopped(self) -> bool:
        return isinstance(self.error, JobInterrupted)


def run_parallel(
    jobs: Mapping[str, Callable[[Callable[[Report], None]], T]],
    parallel: int,
    on_report: Callable[[str, Report | JobOutcome[T]], None],
    on_tick: Callable[[], None] = lambda: None,
    on_stop: Callable[[], None] = lambda: None,
) -> dict[str, JobOutcome[T]]:
    """Run every job in a thread, at most ``parallel`` at a time, in their order.

    A job is called with a function that reports its progress. ``on_report`` receives reports and
    outcomes, and ``on_tick`` is called every 0.2 s, both in the calling thread. On Ctrl-C,
    ``on_stop`` is called, no further job starts, and each running one ends at its next report, so
    that no step is interrupted. A second Ctrl-C raises ``KeyboardInterrupt`` at once.
    """
    reports: queue.SimpleQueue[tuple[str, Report | JobOutcome[T]]] = queue.SimpleQueue()
    stop = threading.Event()
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    ended: dict[str, JobOutcome[T]] = {}
    for name in jobs:
        waiting.put(name)

    def work() -> None:
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            ended[name] = _end(name)
            reports.put((name, ended[name]))

    def _end(name: str) -> JobOutcome[T]:
        if stop.is_set():
            return JobOutcome(error=JobInterrupted("not begun"))

        def report(what: Report) -> None:
            reports.put((name, what))
            if stop.is_set() and not isinstance(what, Notice):
                raise JobInterrupted("stopped on the way")

        began = time.monotonic()
        try:
            return JobOutcome(jobs[name](report), seconds=time.monotonic() - began)
        except Exception as error:  # noqa: BLE001  whatever it is, the other boards go on
            late = stop.is_set() and not isinstance(error, JobInterrupted)
            why = JobInterrupted(f"stopped on the way: {error}") if late else error
            return JobOutcome(error=why, seconds=time.monotonic() - began)

    # daemon threads, not an executor: a second Ctrl-C must not wait for them
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(parallel, len(jobs)))]
    for thread in threads:
        thread.start()
    working = True
    while working:
        try:  # Ctrl-C in here may lose a report, but never an outcome
            working = any(thread.is_alive() for thread in threads) or not reports.empty()
            if working:
                _deliver_next(reports, on_report, on_tick)
        except KeyboardInterrupt:
            if stop.is_set():
                raise
            stop.set()
            on_stop()
    return {name: ended[name] for name in jobs}


def _deliver_next(
    reports: queue.SimpleQueue[tuple[str, Report | JobOutcome[T]]],
    on_report: Callable[[str, Report | JobOutcome[T]], None],
    on_tick: Callable[[], None],
) -> None:
    try:
        name, what = reports.get(timeout=TICK_S)
    except queue.Empty:
        on_tick()
        return
    on_report(name, what)
    on_tick()
