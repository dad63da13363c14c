"""Says what a person waits for, while nothing else is to be seen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

Waiting = Callable[[str], AbstractContextManager[object]]
"""Entered with what is waited for and until when; left once it is there, or given up."""


def unseen(_what: str) -> AbstractContextManager[object]:
    """Nobody watches."""
    return contextlib.nullcontext()
