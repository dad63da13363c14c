"""On whose behalf the present work is done: the event log writes it beside what happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CONTROLLER = "controller"
SCHEDULER = "scheduler"

_present: ContextVar[str] = ContextVar("benchfarm_actor", default=CONTROLLER)


def present() -> str:
    return _present.get()


def become(name: str) -> None:
    """From now on, until this request or thread ends."""
    _present.set(name)


@contextmanager
def acting(name: str) -> Iterator[None]:
    """As ``name`` for as long as the block lasts."""
    token = _present.set(name)
    try:
        yield
    finally:
        _present.reset(token)
