"""A model's task: how its outputs are scored against the labels of a data set.

Standard library only, Python 3.8 syntax, like ``agent.contract.trial``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional

MULTICLASS, BINARY, MULTILABEL, LABELS, NOT_SCORED = (
    "multiclass",
    "binary",
    "multilabel",
    "labels",
    "none",
)
TASKS: Dict[str, str] = {
    MULTICLASS: "a score for each class; the largest is the prediction",
    BINARY: "one score a sample; above the threshold it is class 1",
    MULTILABEL: "a score for each label; those above the threshold are predicted, and a sample is"
    " right where all its labels are",
    LABELS: "class numbers, which must equal the labels",
    NOT_SCORED: "not scored (detection, segmentation, regression …)",
}
THRESHOLDS = {"probability": 0.5, "logit": 0.0}
"""Kind of score → the threshold that separates as a sigmoid at 0.5 does."""


@dataclass(frozen=True)
class Scoring:
    """How accuracy is taken.

    Attributes:
        task: a key of ``TASKS``.
        output: name of the output that is scored; empty: it is found.
        threshold: of ``binary`` and ``multilabel``; ``None``: found from the scores.
        how: where task and threshold are from, for people: declared, or recognised by what.
    """

    task: str
    output: str = ""
    threshold: Optional[float] = None
    how: str = ""


def described(scoring: Scoring) -> str:
    """``binary: output p above 0.5 is class 1 (threshold 0.5: …)``, for people."""
    words = {
        MULTICLASS: "multiclass: arg-max of output %s",
        BINARY: "binary: output %s above %s is class 1",
        MULTILABEL: "multilabel: output %s above %s, all labels of a sample",
        LABELS: "labels: class numbers of output %s equal the labels",
        NOT_SCORED: "not scored",
    }[scoring.task]
    if scoring.task in (BINARY, MULTILABEL):
        words %= (scoring.output, "%g" % (scoring.threshold or 0.0))
    elif scoring.task != NOT_SCORED:
        words %= scoring.output
    return "%s (%s)" % (words, scoring.how) if scoring.how else words
