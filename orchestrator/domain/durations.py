"""Parses durations: ``90d``, ``12h``, ``30min``."""

from __future__ import annotations

import re
from datetime import timedelta

from orchestrator.domain.errors import UserError

UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=36_500)


def duration(text: str, where: str) -> timedelta:
    """Parse a duration; ``where`` begins the error message.

    Raises:
        UserError: not an integer with a unit, or longer than a century.
    """
    found = re.fullmatch(r"([0-9]{1,10})([a-z]+)", text.strip())
    if found is None or found[2] not in UNITS:
        raise UserError(f"{where} {text}: expected a number and {', '.join(UNITS)}: 90d, 12h, 2w")
    try:
        length = timedelta(**{UNITS[found[2]]: int(found[1])})
    except OverflowError:
        length = timedelta.max
    if length > LONGEST:
        raise UserError(f"{where} {text}: that is longer than a century")
    return length
