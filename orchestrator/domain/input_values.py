"""What people say about an input's values: ``ids:range=0,30521``, ``shape:values=2,3``."""

from __future__ import annotations

import math
from collections.abc import Iterable

from agent.contract.input_values import FIXED, REAL, WHOLE, InputValues
from orchestrator.domain.errors import UserError

EXAMPLES = "ids:range=0,30521 (whole numbers), x:range=0.0,1.0 or shape:values=2,3"
WHY = "as declared"


def declared(texts: Iterable[str]) -> dict[str, InputValues]:
    """Input → values, from ``INPUT:range=LOW,HIGH`` and ``INPUT:values=V,…``.

    A range whose bounds have no point is of whole numbers.

    Raises:
        UserError: another form, or an input twice.
    """
    found: dict[str, InputValues] = {}
    for text in texts:
        name, values = _one(text)
        if name in found:
            raise UserError(f"--input {text}: {name!r} is declared twice")
        found[name] = values
    return found


def _one(text: str) -> tuple[str, InputValues]:
    head, separator, numbers = text.rpartition("=")
    name, _, key = head.rpartition(":")
    if not separator or not name or key not in ("range", "values"):
        raise UserError(f"--input {text}: accepted are {EXAMPLES}")
    try:
        values = tuple(float(part) for part in numbers.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"--input {text}: {numbers!r} are no numbers; accepted are {EXAMPLES}")
    if key == "values":
        return name, InputValues(FIXED, fixed=values, why=WHY)
    if len(values) != 2 or values[0] > values[1]:
        raise UserError(
            f"--input {text}: a range is its lowest and its highest value: range=0,30521"
        )
    whole = not any(mark in numbers for mark in ".eE")
    return name, InputValues(WHOLE if whole else REAL, values[0], values[1], why=WHY)
