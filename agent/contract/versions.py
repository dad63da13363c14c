"""How versions of a runtime compare; the planner and the agent must agree."""

from __future__ import annotations

import re


def fits(version: str, wanted: str) -> bool:
    """Whether ``wanted`` is empty, ``version`` itself, or a prefix of it that ends at a dot.

    ``1.31`` matches ``1.31.1``, and ``2.13.0`` matches ``2.13.0+cpu``; ``1.3`` matches neither.
    """
    return not wanted or version == wanted or version.startswith((f"{wanted}.", f"{wanted}+"))


def version_key(version: str) -> tuple[tuple[int, str], ...]:
    """Sort key by numbers: 1.9 before 1.31."""
    return tuple(
        (int(digits or -1), rest) for digits, rest in re.findall(r"(\d*)([^\d.]*)\.?", version)
    )
