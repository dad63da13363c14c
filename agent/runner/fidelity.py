"""Compares a cell's outputs with the FP32 reference, and its top-1 with the source model's."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from agent.contract.failures import BadData, BadOutput, listed
from agent.contract.trial import Accuracy, Fidelity, Tolerance
from agent.runner import output_shapes


class Distance(NamedTuple):
    """Distance of one output from its reference, for one feed; see ``distance``."""

    max_abs: float
    max_rel: float
    cosine: float
    psnr_db: float
    error: float

    def within(self, min_cosine: float) -> bool:
        """Whether the output is accepted.

        The cosine ignores scale, so the relative error must not exceed twice that of vectors of
        equal length at ``min_cosine`` either: 2·sqrt(2·(1 - min_cosine)).
        """
        allowed = 2.0 * math.sqrt(2.0 * max(0.0, 1.0 - min_cosine))
        return self.cosine >= min_cosine and (min_cosine <= 0.0 or self.error <= allowed)


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
        psnr_db=_decibels(spread, noise),
        error=float(np.linalg.norm(difference)) / norm_b if norm_b else math.inf,
    )


def _decibels(spread: float, noise: float) -> float:
    if noise == 0.0:  # a difference whose square is below what a float holds
        return math.inf
    return 20.0 * math.log10(spread / noise) if spread else -math.inf


def compare(
    actual: Sequence[Dict[str, Any]], expected: Sequence[Dict[str, Any]], tolerance: Tolerance
) -> Fidelity:
    """The worst of each figure over all feeds and outputs; the worst output has the least cosine.

    Raises:
        BadOutput: an output is missing, has another shape, or holds NaN or infinity.
    """
    worst_name = ""
    found: List[Distance] = []
    if len(actual) != len(expected):
        raise BadData("%d feeds but %d expected outputs" % (len(actual), len(expected)))
    for ours, theirs in zip(actual, expected):  # noqa: B905 - strict= is newer than 3.8
        ours = aligned(ours, theirs)
        for name, array in theirs.items():
            require_sound(name, ours[name], array)
            one = distance(ours[name], array)
            if not found or one.cosine < min(d.cosine for d in found):
                worst_name = name
            found.append(one)
    if not found:
        raise BadData("the reference holds no outputs")
    cosine = min(d.cosine for d in found)
    psnr = min(d.psnr_db for d in found)
    return Fidelity(
        max_abs=max(d.max_abs for d in found),
        max_rel=_finite(max(d.max_rel for d in found)),
        cosine=cosine,
        psnr_db=None if psnr == math.inf else _finite(psnr),
        feeds=len(expected),
        worst_output=worst_name,
        passed=all(d.within(tolerance.min_cosine) for d in found),
    )


def _finite(value: float) -> float:
    """A number that JSON can hold: infinity, from an all-zero reference, becomes ±1e308."""
    return max(-1e308, min(1e308, value))


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


def top1(outputs: Sequence[Any], labels: Any) -> float:
    """Share of samples whose arg-max over the first output, flattened per sample, is the label.

    ``outputs``: one array (rows, …) for each feed; rows after the last label are padding.

    Raises:
        BadData: fewer rows than labels.
    """
    rows = [np.asarray(o).reshape(len(o), -1).argmax(axis=1) for o in outputs]
    predicted = np.concatenate(rows)[: len(labels)]
    if len(predicted) < len(labels):
        raise BadData("%d labels but only %d outputs" % (len(labels), len(predicted)))
    return float(np.mean(predicted == np.asarray(labels).ravel()))


def accuracy(
    score: float, samples: int, reference: Optional[float], tolerance: Tolerance
) -> Accuracy:
    """``passed`` where ``score`` is at most ``max_top1_drop`` below ``reference``, the source
    model's, or that is unknown."""
    drop = 0.0 if reference is None else reference - score
    # Rounding must not decide: 0.9 - 0.89 is over 0.01 in floats.
    return Accuracy(score, samples, reference, drop <= tolerance.max_top1_drop + 1e-9)
