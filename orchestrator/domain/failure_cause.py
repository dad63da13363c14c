"""Whose fault a trial's failure is: what was asked for, the board, or benchfarm itself. Pure."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from agent.contract import failures
from agent.contract.failures import FAILURE_KINDS
from agent.contract.trial import Failure


class Fault(StrEnum):
    """``input``: the model, or what the sweep asks for; another spec or another file helps.
    ``device``: the board, its memory, disk, clock, power or drivers; look at the board.
    ``harness``: benchfarm itself, the network to it, or the environments that it runs things in."""

    INPUT = failures.INPUT
    DEVICE = failures.DEVICE
    HARNESS = failures.HARNESS


_EARLY_STAGES = frozenset({"fetch", "environment"})
"""Stages in which neither the model nor its runtime was touched yet."""

_LATE_STAGES = frozenset({"convert", "verify"})
"""Stages whose length the model and its data decide: a limit on time that runs out there is too
small for them, and says nothing about the board."""


def whose(failure: Failure) -> Fault:
    """A kind of another release is never blamed on a board, and on the user only by its name."""
    kind = FAILURE_KINDS.get(failure.kind)
    if kind is None:
        return Fault.INPUT if failure.kind.startswith("unsupported_") else Fault.HARNESS
    if failure.stage in _EARLY_STAGES and kind.early_fault is not None:
        return Fault(kind.early_fault)
    if failure.stage in _LATE_STAGES and kind.late_fault is not None:
        return Fault(kind.late_fault)
    return Fault(kind.fault)


def exit_code(faults: Collection[str]) -> int:
    """A command's exit code after trials with these faults: 2 where all are the user's, else 1."""
    return 2 if set(faults) == {Fault.INPUT} else 1
