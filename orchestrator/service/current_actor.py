"""On whose behalf this thread or request works: the event log records it with each event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CONTROLLER = "controller"
SCHEDULER = "scheduler"

_actor: ContextVar[str] = ContextVar("benchfarm_actor", default=CONTROLLER)


def get() -> str:
    return _actor.get()


def set_actor(name: str) -> None:
    """``name`` is the actor until this request or thread ends."""
    _actor.set(name)


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """``name`` is the actor for as long as the block lasts."""
    token = _actor.set(name)
    try:
        yield
    finally:
        _actor.reset(token)
