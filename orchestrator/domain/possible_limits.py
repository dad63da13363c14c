"""Limits of a sweep that can limit nothing, or that end every trial.

They are checked where a file is read, and not by the file's model: sweeps of older versions, which
were accepted with such limits, stay readable.
"""

from __future__ import annotations

from collections.abc import Collection

from agent.contract.trial import Limits

MOST_MEMORY_MIB = 64 << 20
"""64 TiB: no machine that runs trials has more."""
LONGEST_LIMIT_S = 30 * 86_400


def impossible_limits(limits: Limits, given: Collection[str], shortest_s: float) -> dict[str, str]:
    """Limit → what is wrong with it.

    Args:
        given: the limits that the file gives; the others are defaults, which a device's class may
            replace.
        shortest_s: what warm-up and the shortest measurement take, seconds.
    """
    found = {}
    if limits.memory_mib > MOST_MEMORY_MIB:
        found["memory_mib"] = (
            f"{limits.memory_mib} MiB is more than any machine has, so it limits nothing; at most "
            f"{MOST_MEMORY_MIB} (64 TiB) are accepted"
        )
    for key, seconds in (("convert_s", limits.convert_s), ("trial_s", limits.trial_s)):
        if seconds > LONGEST_LIMIT_S:
            found[key] = (
                f"{seconds:g} s are {seconds / 86_400:.0f} days, so it limits nothing; at most "
                f"{LONGEST_LIMIT_S} (30 days) are accepted"
            )
    if "trial_s" in given and limits.trial_s <= shortest_s:
        found["trial_s"] = (
            f"{limits.trial_s:g} s would end every trial: the scenario's warm-up and shortest "
            f"measurement take {shortest_s:g} s"
        )
    return found
