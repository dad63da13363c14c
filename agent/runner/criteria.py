"""Which criteria an output is compared by, and their figures (docs/decisions/0018).

What an output is follows from its reference alone, so that every cell is compared alike.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from agent.contract.comparison import LIMITS, Check, OutputLimits, check
from agent.contract.trial import Tolerance

Arrays = Sequence[Any]
"""One output over all feeds."""

NUMBERS, SINGLE, NUMBERED, REGIONS = "numbers", "single", "numbered", "regions"
"""Kinds of output: real numbers, one number a sample, class numbers (or other integers that are
right or wrong), regions of an image."""
REGION_VALUES = 64
"""Fewest values of a map of regions, and most different ones: more are an image."""
FEW = 4
"""From so many class numbers on, one may differ below FP32: networks that are as good as their
reference give another class where two scores are all but equal."""
LOOSER = 5.0
"""Where a comparison asks for less than a sweep does (a conversion, a file that joins a model), so
many times as many values may differ."""
SCORED = 2.0
"""So many times the relative error is allowed where the accuracy of that output decides."""


class Distance(NamedTuple):
    """Distance of one output from its reference, for one feed; see ``distance``."""

    max_abs: float
    max_rel: float
    cosine: float
    psnr_db: float
    error: float


def distance(actual: Any, expected: Any) -> Distance:
    """How far ``actual`` is from ``expected``, both of any one shape.

    - ``max_abs``: the largest absolute difference.
    - ``max_rel``: ``max_abs`` over the largest magnitude in ``expected`` (0 where both are 0):
      relative to the tensor's range, because dividing by single values near 0 says nothing.
    - ``cosine``: of the flattened tensors; 1 where both are 0, 0 where one is.
    - ``psnr_db``: 20·log10(range of ``expected`` / root mean square difference), the range being
      max - min or, of a constant tensor, its magnitude; infinite where they are identical.
    - ``error``: the difference's Euclidean norm over that of ``expected``.
    """
    a = np.asarray(actual, dtype=np.float64).ravel()
    b = np.asarray(expected, dtype=np.float64).ravel()
    max_abs = float(np.abs(a - b).max()) if a.size else 0.0
    if max_abs == 0.0:
        return Distance(0.0, 0.0, 1.0, math.inf, 0.0)
    # Scaled for the rest: squares must neither underflow nor overflow.
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()))
    a, b = a / scale, b / scale
    difference = np.abs(a - b)
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    magnitude = float(np.abs(b).max())
    spread = float(b.max() - b.min()) or magnitude
    noise = math.sqrt(float(np.mean(difference**2)))
    cosine = float(a @ b) / (norm_a * norm_b) if norm_a and norm_b else 0.0
    return Distance(
        max_abs=max_abs,
        max_rel=max_abs / scale / magnitude if magnitude else math.inf,
        cosine=max(-1.0, min(1.0, cosine)),
        psnr_db=decibels(spread, noise),
        error=float(np.linalg.norm(difference)) / norm_b if norm_b else math.inf,
    )


def decibels(spread: float, noise: float) -> float:
    """Peak signal-to-noise ratio of a range and a root mean square difference."""
    if noise == 0.0:  # a difference whose square is below what a float holds
        return math.inf
    return 20.0 * math.log10(spread / noise) if spread else -math.inf


def finite(value: float) -> float:
    """A number that JSON can hold: infinity, from an all-zero reference, becomes ±1e308."""
    return max(-1e308, min(1e308, value))


def limits(tolerance: Tolerance, precision: str, scored: bool = False) -> OutputLimits:
    """What is allowed at ``precision``; ``scored``: the accuracy of this output decides.

    Where less cosine is asked for than a sweep's default, the other defaults are looser too: the
    relative error of vectors of equal length at that cosine, sqrt(2·(1 - cosine)), twice. At a
    cosine of 0 or less nothing is bounded.
    """
    usual = LIMITS.get(precision, LIMITS["int8"])
    least = tolerance.min_cosine
    relative: Optional[float] = usual.relative_error
    psnr, equal, overlap = usual.psnr, usual.equal, usual.overlap
    if usual.cosine is not None and least < usual.cosine:
        relative = 200.0 * math.sqrt(2.0 * (1.0 - max(least, 0.0)))
        psnr, equal, overlap = None, _looser(equal), _looser(overlap)
    if least <= 0.0:
        relative = psnr = equal = overlap = None
    elif scored:
        relative, psnr = SCORED * relative if relative is not None else None, None
    return OutputLimits(
        cosine=least,
        relative_error=_chosen(tolerance.max_relative_error, relative, 100.0),
        psnr=_chosen(tolerance.min_psnr_db, psnr),
        equal=_chosen(tolerance.min_equal, equal, 100.0),
        overlap=_chosen(tolerance.min_overlap, overlap, 100.0),
    )


def _looser(share: Optional[float]) -> Optional[float]:
    return None if share is None else 100.0 - LOOSER * (100.0 - share)


def _chosen(given: Optional[float], usual: Optional[float], scale: float = 1.0) -> Optional[float]:
    return usual if given is None else given * scale


def kind_of(expected: Arrays) -> str:
    """What an output is, by its reference over all feeds: its type, shape and values."""
    arrays = [np.asarray(array) for array in expected]
    whole = all(_is_whole(array) for array in arrays)
    if whole and all(_is_plane(array) for array in arrays):
        different = np.unique(np.concatenate([array.ravel() for array in arrays]))
        if 1 < len(different) <= REGION_VALUES:
            return REGIONS
    if arrays[0].dtype.kind in "biu":
        return NUMBERS if _is_quantised(arrays) else NUMBERED
    if all(_is_row(array) for array in arrays) and whole and _many_whole(arrays):
        return NUMBERED
    single = all(_is_row(array) and (array.size == 1 or array.ndim > 1) for array in arrays)
    return SINGLE if single else NUMBERS


def _is_whole(array: Any) -> bool:
    return array.dtype.kind in "biu" or bool(array.size and (array == np.rint(array)).all())


def _is_quantised(arrays: Arrays) -> bool:
    """Whether integers are an image or scores in 8 or 16 bits, where one step is no error."""
    small = arrays[0].dtype.kind in "iu" and arrays[0].dtype.itemsize < 4
    if not small or all(_is_row(array) for array in arrays):
        return False
    return len(np.unique(np.concatenate([array.ravel() for array in arrays]))) > 2


def _is_row(array: Any) -> bool:
    """Whether an array may hold one value a sample; (n,) may also be n values of one sample."""
    return bool(array.size <= (array.shape[0] if array.ndim else 1))


def _is_plane(array: Any) -> bool:
    """Whether an array has at least two axes of an image behind the first one."""
    return int(array.size) >= REGION_VALUES and sum(size > 1 for size in array.shape[1:]) >= 2


def _many_whole(arrays: Arrays) -> bool:
    """Whether single floats are class numbers: whole, not negative, and not all the same."""
    values = np.concatenate([np.asarray(array).ravel() for array in arrays])
    return bool(values.min() >= 0 and values.max() > values.min())


def checks(
    name: str, actual: Arrays, expected: Arrays, allowed: OutputLimits, exact: bool
) -> List[Check]:
    """Every criterion on one output over all feeds. ``exact``: FP32, where no value may flip."""
    kind = kind_of(expected)
    values = int(sum(np.asarray(array).size for array in expected))
    note = _note(expected)
    if kind == NUMBERED:
        return _equal(name, actual, expected, allowed, values, exact, note)
    if kind == REGIONS:
        figure = 100.0 * min(_overlap(a, e) for a, e in zip(actual, expected))  # noqa: B905
        limit = allowed.overlap
        return [] if limit is None else [check(name, "overlap", figure, limit, values, note)]
    found: Dict[str, float] = {}
    error, psnr = _against_all(actual, expected)
    if kind == NUMBERS:
        distances = [distance(a, e) for a, e in zip(actual, expected)]  # noqa: B905
        found["cosine"] = min(d.cosine for d in distances)
        found["psnr"] = psnr
    found["relative_error"] = error
    bounds = {
        "cosine": allowed.cosine,
        "relative_error": allowed.relative_error,
        "psnr": allowed.psnr,
    }
    return [
        check(name, criterion, finite(figure), limit, values, note)
        for criterion, figure in found.items()
        for limit in [bounds[criterion]]
        if limit is not None and not (criterion == "psnr" and figure == math.inf)
    ]


def _equal(
    name: str,
    actual: Arrays,
    expected: Arrays,
    allowed: OutputLimits,
    values: int,
    exact: bool,
    note: str,
) -> List[Check]:
    if allowed.equal is None or not values:
        return []
    same = sum(int((_rounded(a) == _rounded(e)).sum()) for a, e in zip(actual, expected))  # noqa: B905
    may_differ = int(values * (100.0 - allowed.equal) / 100.0 + 1e-9)
    if not exact and values >= FEW:
        may_differ = max(1, may_differ)
    limit = 100.0 * (values - may_differ) / values
    return [check(name, "equal", 100.0 * same / values, limit, values, note)]


def _rounded(array: Any) -> Any:
    array = np.asarray(array)
    return array if array.dtype.kind in "biu" else np.rint(array)


def _overlap(actual: Any, expected: Any) -> float:
    """Mean intersection over union of the regions that occur in ``expected``, 0 to 1."""
    ours, theirs = _rounded(actual), _rounded(expected)
    shares = []
    for value in np.unique(theirs):
        a, e = ours == value, theirs == value
        shares.append(float((a & e).sum()) / float((a | e).sum()))
    return float(np.mean(shares))


def _against_all(actual: Arrays, expected: Arrays) -> Any:
    """Relative error in per cent, and PSNR in dB, of the worst feed.

    Both are relative to the output over all feeds (its root mean square norm, its range), so that a
    feed whose output happens to be small or flat is judged by what is usual.
    """
    pairs = [
        (np.asarray(a, dtype=np.float64).ravel(), np.asarray(e, dtype=np.float64).ravel())
        for a, e in zip(actual, expected)  # noqa: B905
    ]
    pairs = [(a, e) for a, e in pairs if e.size]
    if not pairs:
        return 0.0, math.inf
    scale = max(max(float(np.abs(a).max()), float(np.abs(e).max())) for a, e in pairs)
    if scale == 0.0:
        return 0.0, math.inf
    pairs = [(a / scale, e / scale) for a, e in pairs]
    norms = [float(np.linalg.norm(e)) for _, e in pairs]
    usual = math.sqrt(sum(n * n for n in norms) / len(norms))
    high, low = max(float(e.max()) for _, e in pairs), min(float(e.min()) for _, e in pairs)
    spread = (high - low) or max(abs(high), abs(low))
    worst_error, worst_psnr = 0.0, math.inf
    for (a, e), norm in zip(pairs, norms):  # noqa: B905
        off = float(np.linalg.norm(a - e))
        base = max(norm, usual)
        error = 0.0 if off == 0.0 else (off / base if base else math.inf)
        worst_error = max(worst_error, error)
        worst_psnr = min(worst_psnr, decibels(spread, off / math.sqrt(e.size)))
    return 100.0 * worst_error, worst_psnr


def unchanging(outputs: Sequence[Dict[str, Any]]) -> List[str]:
    """Names of the outputs that are the same for every feed; empty for a single feed."""
    if len(outputs) < 2:
        return []
    return [
        name
        for name, first in outputs[0].items()
        if all(np.array_equal(first, other[name]) for other in outputs[1:])
    ]


def _note(expected: Arrays) -> str:
    if unchanging([{"": array} for array in expected]):
        return "the reference is the same for all %d inputs, so this proves little" % len(expected)
    return ""
