"""How outputs are compared with a reference: criteria, their limits for each precision, and the
figures of one comparison as they cross the wire (docs/decisions/0018).

Standard library only, Python 3.8 syntax, like ``agent.contract.trial``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterable, NamedTuple, Optional

from agent.contract.codec import NEWER

PASSED, FAILED = "passed", "failed"


class Criterion(NamedTuple):
    """One way to compare. ``words``: its name in reports. ``least``: a figure must be at least its
    limit, otherwise at most. ``perfect``: the figure of identical outputs."""

    words: str
    unit: str
    least: bool
    perfect: float


CRITERIA: Dict[str, Criterion] = {
    "cosine": Criterion("cosine", "", True, 1.0),
    "relative_error": Criterion("relative error", "%", False, 0.0),
    "psnr": Criterion("PSNR", "dB", True, float("inf")),
    "equal": Criterion("equal values", "%", True, 100.0),
    "overlap": Criterion("overlap of regions (IoU)", "%", True, 100.0),
}


@dataclass(frozen=True)
class Check:
    """One criterion on one output: the worst figure over all feeds against its limit.

    Attributes:
        criterion: a key of ``CRITERIA``.
        unit: of ``figure`` and ``limit``.
        values: how many values were compared.
        verdict: ``passed`` or ``failed``.
        note: what the figure does not show, e.g. because the reference never changes.
    """

    output: str
    criterion: str
    figure: float
    unit: str
    limit: float
    values: int
    verdict: str
    note: str = field(default="", metadata=NEWER)

    @property
    def passed(self) -> bool:
        return self.verdict != FAILED

    @property
    def used(self) -> float:
        """How much of what is allowed the figure uses up: 0 is identical, above 1 has failed."""
        criterion = CRITERIA.get(self.criterion)
        if criterion is None:
            return 0.0
        if self.criterion == "psnr":  # decibels: compare the errors that they stand for
            return float(10.0 ** ((self.limit - self.figure) / 20.0))
        off, allowed = abs(criterion.perfect - self.figure), abs(criterion.perfect - self.limit)
        if allowed == 0.0:
            return 0.0 if off == 0.0 else 1e9
        return off / allowed


def check(
    output: str, criterion: str, figure: float, limit: float, values: int, note: str = ""
) -> Check:
    """The verdict of one criterion on one output."""
    known = CRITERIA[criterion]
    # Rounding must not decide: 0.9 - 0.89 is over 0.01 in floats.
    slack = 1e-9 * max(1.0, abs(limit))
    passed = figure >= limit - slack if known.least else figure <= limit + slack
    verdict = PASSED if passed else FAILED
    return Check(output, criterion, figure, known.unit, limit, values, verdict, note)


def worst(checks: Iterable[Check]) -> Optional[Check]:
    """The check that decides: one that failed, else the one nearest to its limit."""
    return max(checks, key=lambda c: (not c.passed, c.used), default=None)


def described(found: Check) -> str:
    """``relative error 31 %, at most 20 %``; for people."""
    known = CRITERIA.get(found.criterion)
    words, bound = (
        (known.words, "at least" if known.least else "at most")
        if known
        else (
            found.criterion,
            "limit",
        )
    )
    # Without its unit a limit of 0 decimals would read as the figure itself.
    return "%s %s, %s %s" % (
        words,
        amount(found.figure, found.unit, found.limit),
        bound,
        amount(found.limit, found.unit),
    )


def closeness(checks: Iterable[Check], cosine: float) -> str:
    """``cosine 0.999871``: the least cosine, or what decides where no output has a direction."""
    found = list(checks)
    decides = worst(found)
    if decides is None or any(c.criterion == "cosine" for c in found):
        return "cosine %.6f" % cosine
    words = CRITERIA[decides.criterion].words if decides.criterion in CRITERIA else ""
    return "%s %s" % (words or decides.criterion, amount(decides.figure, decides.unit))


def amount(figure: float, unit: str, limit: Optional[float] = None) -> str:
    """A figure with its unit, with enough digits that it never reads as the ``limit`` that it
    misses."""
    digits = 4
    text = "%.*g" % (digits, figure)
    while limit is not None and figure != limit and digits < 15 and float(text) == limit:
        digits += 1
        text = "%.*g" % (digits, figure)
    return "%s %s" % (text, unit) if unit else text


@dataclass(frozen=True)
class OutputLimits:
    """What each criterion allows; ``None``: it decides nothing. Units as in ``CRITERIA``."""

    cosine: Optional[float]
    relative_error: Optional[float]
    psnr: Optional[float]
    equal: Optional[float]
    overlap: Optional[float]


LIMITS: Dict[str, OutputLimits] = {
    "fp32": OutputLimits(0.9999, 1.0, 40.0, 99.0, 99.0),
    "fp16": OutputLimits(0.999, 3.0, 35.0, 98.0, 97.0),
    "bf16": OutputLimits(0.99, 10.0, 25.0, 95.0, 92.0),
    "int8": OutputLimits(0.95, 20.0, 20.0, 90.0, 85.0),
}
"""Precision → limits of a sweep that sets none. docs/decisions/0018 says what they were taken
from."""
