"""The thread pool for devices' requests."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from contextvars import ContextVar

import pytest

from orchestrator.api.thread_pool import ThreadPool

WHO: ContextVar[str] = ContextVar("who", default="nobody")


def named(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(f"{name}-")]


def test_it_answers_what_was_returned_or_raised() -> None:
    async def ask() -> None:
        pool = ThreadPool("answers", 2)
        assert await pool.run(lambda: threading.current_thread().name) in ("answers-0", "answers-1")
        with pytest.raises(KeyError, match="WHY"):
            await pool.run(lambda: os.environ["WHY"])
        assert await pool.run(lambda: 5) == 5  # the thread survived the error

    asyncio.run(ask())


def test_as_many_work_at_once_as_there_are_threads() -> None:
    async def ask() -> None:
        pool, together = ThreadPool("many", 3), threading.Barrier(3)
        await asyncio.gather(*(pool.run(lambda: together.wait(10)) for _ in range(3)))
        assert len(named("many")) == 3

    asyncio.run(ask())


def test_work_sees_its_askers_context_and_leaves_no_trace() -> None:
    def work() -> str:
        seen = WHO.get()
        WHO.set("the work")
        return seen

    async def ask() -> None:
        pool = ThreadPool("context", 1)
        WHO.set("a board")
        assert await pool.run(work) == "a board"
        assert WHO.get() == "a board"
        assert await pool.run(work) == "a board"

    asyncio.run(ask())


def test_who_gave_up_is_not_answered() -> None:
    async def ask() -> None:
        pool, go = ThreadPool("gave-up", 1), threading.Event()
        waiting = asyncio.create_task(pool.run(lambda: go.wait(10)))
        await asyncio.sleep(0)
        waiting.cancel()
        go.set()
        assert await pool.run(lambda: 1) == 1
        assert waiting.cancelled()

    asyncio.run(ask())


def test_a_loop_that_ended_meanwhile_breaks_no_thread() -> None:
    pool, go = ThreadPool("ended", 1), threading.Event()

    async def leave() -> None:
        task = asyncio.create_task(pool.run(lambda: go.wait(10)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    go.set()
    assert asyncio.run(pool.run(lambda: 2)) == 2


def test_threads_end_with_their_desk() -> None:
    pool = ThreadPool("fleeting", 2)
    assert named("fleeting") == []
    assert asyncio.run(pool.run(lambda: 1)) == 1
    threads = named("fleeting")
    assert len(threads) == 2
    assert all(t.daemon for t in threads)
    del pool
    gc.collect()
    deadline = time.monotonic() + 10
    while named("fleeting") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert named("fleeting") == []
