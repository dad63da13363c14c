"""Values of a data set: what no model can mean, and what does not fit the model's input.

The first value that is wrong is named, with its place and what is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agent.contract.trial import TensorSpec
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import ArrayValues

NUMBERS = "biuf"
LABELS = "labels"
LABELS_ACCEPTED = (
    "accepted: class numbers from 0, in the order of the model's classes, or 0 and 1 for each label"
)
MOST_ARRAYS = 20
OTHER_SCALE = 10.0
"""From so many times the range of the inputs on, the calibration samples are of another scale."""

Values = Mapping[str, ArrayValues]


def require_usable(values: Values, name: str, labels_are_used: bool) -> None:
    """Raises ``UserError``: text, NaN or infinity in an array; labels that are no class numbers."""
    for key, found in values.items():
        if key != LABELS:
            _require_numbers(name, found)
        elif labels_are_used:
            _require_labels(name, found)


def _require_numbers(name: str, found: ArrayValues) -> None:
    if found.kind not in NUMBERS:
        raise UserError(f"{name}: {found.first} ({found.dtype}); accepted: numbers")
    if found.not_finite:
        raise UserError(f"{name}: {found.not_finite}; accepted: finite numbers")


def _require_labels(name: str, found: ArrayValues) -> None:
    if found.kind not in NUMBERS:
        raise UserError(f"{name}: {found.first} ({found.dtype}); {LABELS_ACCEPTED}")
    wrong = found.not_finite or found.fraction
    if not wrong and found.low < 0:
        hint = " (leave samples without a label out)" if found.low == -1 else ""
        raise UserError(f"{name}: {found.low_at}; {LABELS_ACCEPTED}{hint}")
    if wrong:
        raise UserError(f"{name}: {wrong}; {LABELS_ACCEPTED}")


def require_kept(values: Values, name: str, key: str, spec: TensorSpec) -> None:
    """Raises ``UserError`` where the type of the model's input does not hold the samples' values:
    they would be cut or overflow without a word."""
    found = values.get(key)
    if found is None or not found.low_at:
        return
    dtype = np.dtype(spec.dtype)
    takes = f"input {spec.name} takes {spec.dtype}"
    if dtype.kind == "b":
        wrong = (
            found.fraction or (found.low < 0 and found.low_at) or (found.high > 1 and found.high_at)
        )
        if wrong:
            raise UserError(f"{name}: {wrong}; {takes}: accepted are 0 and 1")
        return
    if dtype.kind in "iu" and found.fraction:
        limits = np.iinfo(dtype)
        scale = (
            f": values of 0…1 would become 0; scale them to 0…{limits.max}"
            if found.low >= 0 and found.high <= 1 and dtype.itemsize == 1
            else ", which would cut them"
        )
        raise UserError(f"{name}: {found.fraction}; {takes}{scale}")
    if dtype.kind in "iuf":
        low, high = (
            (float(np.finfo(dtype).min), float(np.finfo(dtype).max))
            if dtype.kind == "f"
            else (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
        )
        beyond = (found.low < low and found.low_at) or (found.high > high and found.high_at)
        if beyond:
            raise UserError(f"{name}: {beyond}; {takes}: accepted are {low:g}…{high:g}")


def remarks(values: Values, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """What is accepted, and yet may not be meant."""
    found = []
    for key in shapes:
        kind, _, tensor = key.partition(":")
        if kind != "calibration":
            continue
        of = f" of input {tensor}" if tensor else ""
        samples = values.get(f"inputs:{tensor}" if tensor else "inputs")
        calibration = values.get(key)
        if not shapes[key][0]:
            found.append(
                f"the data set has no calibration samples{of}: int8 needs some, or "
                "`calibration: random`"
            )
        elif samples and calibration and _of_other_scale(samples, calibration):
            found.append(
                f"calibration samples{of} lie in {_range(calibration)} and inputs in "
                f"{_range(samples)}: int8 takes its ranges from the former, so both should be "
                "prepared alike"
            )
    return found


def _of_other_scale(one: ArrayValues, other: ArrayValues) -> bool:
    sizes = sorted(max(abs(v.low), abs(v.high)) for v in (one, other))
    return sizes[1] > OTHER_SCALE * sizes[0]


def described(values: Values) -> str:
    """``inputs float32 -0.42…2.82, labels int64 0…9``; for people."""
    ranges = [f"{key} {v.dtype} {_range(v)}" for key, v in values.items() if v.low_at]
    return ", ".join(ranges[:MOST_ARRAYS])


def _range(found: ArrayValues) -> str:
    return f"{found.low:.3g}…{found.high:.3g}"
