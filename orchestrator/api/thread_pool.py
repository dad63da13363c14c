"""The few threads that answer devices."""

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
    """Threads of its own, begun with the first work and ended with the desk.

    Not ``anyio.to_thread``, nor an executor: handing work over and back is the largest part of
    what a device's request costs beside the database, and costs half as much here. The threads are
    daemons: a database that hangs keeps no controller from ending.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._threads = name, threads
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._begun = False

    async def do(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises, done in one of the threads in a copy of this context."""
        if not self._begun:
            self._begin()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((copy_context(), work, answer))
        return await answer

    def _begin(self) -> None:
        for number in range(self._threads):
            name = f"{self._name}-{number}"
            threading.Thread(target=_serve, args=(self._jobs,), name=name, daemon=True).start()
        weakref.finalize(self, _send_home, self._jobs, self._threads)
        self._begun = True


def _serve(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        context, work, answer = job
        try:
            given = answer.set_result, context.run(work)
        except BaseException as error:  # noqa: BLE001  whatever it is, its request is to hear of it
            given = answer.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            answer.get_loop().call_soon_threadsafe(_tell, answer, *given)
        del job, context, work, answer, given  # or they would live on until the next job


def _tell(answer: asyncio.Future[Any], how: Callable[[Any], None], what: Any) -> None:
    if not answer.done():  # as one is whose request was cancelled meanwhile
        how(what)


def _send_home(jobs: SimpleQueue[Job | None], threads: int) -> None:
    for _ in range(threads):
        jobs.put(None)
