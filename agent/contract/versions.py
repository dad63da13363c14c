"""How versions of a runtime compare: the planner and the agent must agree on it."""

from __future__ import annotations

import re


def fits(version: str, wanted: str) -> bool:
    """Whether ``version`` is what was asked for: nothing, itself, or a prefix of it at a dot.

    ``1.31`` finds ``1.31.1``, and ``2.13.0`` finds ``2.13.0+cpu``; ``1.3`` finds neither.
    """
    return not wanted or version == wanted or version.startswith((f"{wanted}.", f"{wanted}+"))


def version_key(version: str) -> tuple[tuple[int, str], ...]:
    """Sorts versions by their numbers: 1.9 before 1.31."""
    return tuple(
        (int(digits or -1), rest) for digits, rest in re.findall(r"(\d*)([^\d.]*)\.?", version)
    )
