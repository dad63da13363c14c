"""One job for each board, several at a time; one that fails ends alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Said = TypeVar("Said")

TICK_S = 0.2


class JobInterrupted(Exception):
    """The user wants no more; raised in a job when it next says something."""


@dataclass(frozen=True)
class JobOutcome(Generic[T]):
    """``value`` where the job ended well, else why not. ``seconds`` 0: it was not begun."""

    value: T | None = None
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def stopped(self) -> bool:
        return isinstance(self.error, JobInterrupted)


def side_by_side(
    jobs: Mapping[str, Callable[[Callable[[Said], None]], T]],
    parallel: int,
    hear: Callable[[str, Said | JobOutcome[T]], None],
    tick: Callable[[], None] = lambda: None,
    stopping: Callable[[], None] = lambda: None,
) -> dict[str, JobOutcome[T]]:
    """Run every job in a thread, at most ``parallel`` at a time, in their order.

    A job is called with what it tells its progress by. ``hear`` gets that and the job's end, and
    ``tick`` is called every 0.2 s: both in this thread. Ctrl-C lets each job go on to where it
    next tells something, so that none is left in the middle of a step, and begins no other
    (``stopping`` is called); a second one raises ``KeyboardInterrupt`` at once.
    """
    said: queue.SimpleQueue[tuple[str, Said | JobOutcome[T]]] = queue.SimpleQueue()
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
            said.put((name, ended[name]))

    def _end(name: str) -> JobOutcome[T]:
        if stop.is_set():
            return JobOutcome(error=JobInterrupted("not begun"))

        def tell(what: Said) -> None:
            said.put((name, what))
            if stop.is_set():
                raise JobInterrupted("stopped on the way")

        began = time.monotonic()
        try:
            return JobOutcome(jobs[name](tell), seconds=time.monotonic() - began)
        except Exception as error:  # noqa: BLE001  whatever it is, the other boards go on
            late = stop.is_set() and not isinstance(error, JobInterrupted)
            why = JobInterrupted(f"stopped on the way: {error}") if late else error
            return JobOutcome(error=why, seconds=time.monotonic() - began)

    # not an executor's: a second Ctrl-C shall not wait for them
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(parallel, len(jobs)))]
    for thread in threads:
        thread.start()
    working = True
    while working:
        try:  # a key pressed anywhere in here may lose a line, and never a job's end
            working = any(thread.is_alive() for thread in threads) or not said.empty()
            if working:
                _listen(said, hear, tick)
        except KeyboardInterrupt:
            if stop.is_set():
                raise
            stop.set()
            stopping()
    return {name: ended[name] for name in jobs}


def _listen(
    said: queue.SimpleQueue[tuple[str, Said | JobOutcome[T]]],
    hear: Callable[[str, Said | JobOutcome[T]], None],
    tick: Callable[[], None],
) -> None:
    try:
        name, what = said.get(timeout=TICK_S)
    except queue.Empty:
        tick()
        return
    hear(name, what)
    tick()
