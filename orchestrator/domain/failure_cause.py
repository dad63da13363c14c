"""Whose fault a trial's failure is: what was asked for, the board, or benchfarm itself. Pure."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from agent.contract.trial import Failure


class Fault(StrEnum):
    """``input``: the model, or what the sweep asks of it; another spec or another file helps.
    ``device``: the board, its memory, disk, clock, power or drivers; look at the board.
    ``harness``: benchfarm itself, the network to it, or the environments that it runs things in."""

    INPUT = "input"
    DEVICE = "device"
    HARNESS = "harness"


_OF_INPUT = frozenset(
    {
        "bad_data",
        "bad_model",
        "bad_option",
        "bad_output",
        "bad_shape",
        "calibration_missing",
        "conversion_failed",
        "off_reference",
        "other_network",
        "trtexec",
    }
)
_OF_DEVICE = frozenset(
    {
        "agent_died",
        "clock",
        "crash",
        "cuda",
        "disk_full",
        "io",
        "lease_lost",
        "lost",
        "out_of_memory",
        "timeout",
    }
)
_BEFORE = frozenset({"fetch", "environment"})
"""Stages in which neither the model nor its runtime was touched yet."""
_EVEN_THEN = frozenset({"agent_died", "clock", "disk_full", "lease_lost", "lost", "out_of_memory"})


def whose(failure: Failure) -> Fault:
    """Nothing that is not known by its kind is blamed on the user or on a board."""
    if failure.kind == "unsupported" or failure.kind.startswith("unsupported_"):
        return Fault.INPUT
    if failure.kind in _OF_INPUT:
        return Fault.INPUT
    if failure.kind in _EVEN_THEN:
        return Fault.DEVICE
    if failure.kind in _OF_DEVICE and failure.stage not in _BEFORE:
        return Fault.DEVICE
    return Fault.HARNESS


def exit_code(faults: Collection[str]) -> int:
    """Of a command whose trials failed so: 2 where it was all the user's input, else 1."""
    return 2 if set(faults) == {Fault.INPUT} else 1
