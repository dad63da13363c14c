"""A small thread pool for devices' requests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple[Context, Callable[[], Any], "asyncio.Future[Any]"]


class ThreadPool:
    """A fixed number of threads, started with the first job and stopped with the pool.

    Used instead of ``anyio.to_thread`` or an executor: beside the database, handing a job over and
    its result back is most of a device request's cost, and here it is half as much. The threads are
    daemons, so that a database that hangs does not keep the controller from ending.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._threads = name, threads
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._started = False

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in one of the threads, in a copy of this context; returns or raises its
        outcome."""
        if not self._started:
            self._start()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((copy_context(), work, answer))
        return await answer

    def _start(self) -> None:
        for number in range(self._threads):
            name = f"{self._name}-{number}"
            threading.Thread(target=_serve, args=(self._jobs,), name=name, daemon=True).start()
        weakref.finalize(self, _stop_threads, self._jobs, self._threads)
        self._started = True


def _serve(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        context, work, answer = job
        try:
            given = answer.set_result, context.run(work)
        except BaseException as error:  # noqa: BLE001  raised again where it is awaited
            given = answer.set_exception, error
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            answer.get_loop().call_soon_threadsafe(_resolve, answer, *given)
        del job, context, work, answer, given  # else they are kept alive until the next job


def _resolve(answer: asyncio.Future[Any], how: Callable[[Any], None], what: Any) -> None:
    if not answer.done():  # done: its request was cancelled
        how(what)


def _stop_threads(jobs: SimpleQueue[Job | None], threads: int) -> None:
    for _ in range(threads):
        jobs.put(None)
