"""Compares a cell's outputs with the FP32 reference."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Sequence

import numpy as np

from agent.contract.comparison import Check, worst
from agent.contract.failures import BadData, BadOutput, listed
from agent.contract.trial import Fidelity, Tolerance
from agent.runner import output_shapes
from agent.runner.criteria import checks, distance, finite, limits


def compare(
    actual: Sequence[Dict[str, Any]],
    expected: Sequence[Dict[str, Any]],
    tolerance: Tolerance,
    precision: str = "fp32",
    scored: str = "",
) -> Fidelity:
    """Every criterion on every output, over all feeds.

    Args:
        precision: of the cell; its limits hold where ``tolerance`` sets none.
        scored: the output whose accuracy is compared as well.

    Raises:
        BadOutput: an output is missing, has another shape, or holds NaN or infinity.
    """
    if len(actual) != len(expected):
        raise BadData("%d feeds but %d expected outputs" % (len(actual), len(expected)))
    pairs = list(zip([aligned(o, t) for o, t in zip(actual, expected)], expected))  # noqa: B905
    for ours, theirs in pairs:
        for name, array in theirs.items():
            require_sound(name, ours[name], array)
    names = list(expected[0]) if expected else []
    if not names:
        raise BadData("the reference holds no outputs")
    found: List[Check] = []
    for name in names:
        found += checks(
            name,
            [ours[name] for ours, _ in pairs],
            [theirs[name] for _, theirs in pairs],
            limits(tolerance, precision, scored == name),
            exact=precision == "fp32",
        )
    return _summary(found, [(o[n], t[n]) for o, t in pairs for n in names], len(expected), names)


def _summary(found: List[Check], pairs: List[Any], feeds: int, names: List[str]) -> Fidelity:
    distances = [distance(ours, theirs) for ours, theirs in pairs]
    psnr = min(d.psnr_db for d in distances)
    decides = worst(found)
    others = [c for c in found if c is not decides]
    return Fidelity(
        max_abs=max(d.max_abs for d in distances),
        max_rel=finite(max(d.max_rel for d in distances)),
        cosine=_cosine(found, distances),
        psnr_db=None if psnr == math.inf else finite(psnr),
        feeds=feeds,
        worst_output=decides.output if decides else names[0],
        passed=all(c.passed for c in found),
        checks=tuple(([decides] if decides else []) + others),
    )


def _cosine(found: List[Check], distances: List[Any]) -> float:
    """The least cosine of the outputs that have a direction, else the least share that is right."""
    cosines = [c.figure for c in found if c.criterion == "cosine"]
    shares = [c.figure / 100.0 for c in found if c.criterion in ("equal", "overlap")]
    shares += [1.0 - min(1.0, c.figure / 100.0) for c in found if c.criterion == "relative_error"]
    return float(min(cosines or shares or [d.cosine for d in distances]))


def aligned(ours: Dict[str, Any], theirs: Dict[str, Any]) -> Dict[str, Any]:
    """Our outputs with the reference's names: matched by name, or in order where a format has other
    names (an exported program those of its last operators). A wrong order shows in the values.

    Raises:
        BadOutput: not as many outputs as the reference has.
    """
    if set(ours) == set(theirs):
        return ours
    if len(ours) != len(theirs):
        raise BadOutput(
            "the outputs are %s; the reference has %s"
            % (listed(sorted(ours)), listed(sorted(theirs)))
        )
    return dict(zip(theirs, ours.values()))  # noqa: B905 - strict= is newer than 3.8


def require_sound(name: str, actual: Any, expected: Any) -> None:
    """Raises ``BadOutput`` where an output has another shape, or holds NaN or infinity."""
    if actual.shape != expected.shape:
        raise BadOutput(output_shapes.difference(name, actual.shape, expected.shape))
    bad = int(actual.size - np.isfinite(np.asarray(actual, dtype=np.float64)).sum())
    if bad:
        raise BadOutput("output %s: %d of %d values are NaN or infinite" % (name, bad, actual.size))
