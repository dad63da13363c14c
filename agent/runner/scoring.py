"""Accuracy on a labelled data set: predictions from outputs, and what makes a figure doubtful."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from agent.contract.failures import BadData, listed
from agent.contract.scoring import (
    BINARY,
    LABELS,
    MULTICLASS,
    MULTILABEL,
    THRESHOLDS,
    Scoring,
)

MOST_VALUES = 1 << 16
"""Most values of one sample in an output that is scored: what has more is an image or a map."""
MOST_NAMED = 8
_SLACK = 1e-3
"""Softmax in half precision ends a little above 1."""


class Scores(NamedTuple):
    """One output for every sample of a data set: ``columns`` (samples, values), ``whole`` where
    its type is an integer or a boolean."""

    columns: Any
    whole: bool


class Scored(NamedTuple):
    """``accuracy`` is a share; ``remarks`` say what makes it doubtful, for people."""

    accuracy: float
    samples: int
    remarks: List[str]


def rows_of(array: Any, rows: int) -> Optional[Any]:
    """An output as (samples, values) where it holds a row of values for each of ``rows`` samples;
    ``None``: it is an image, a map, or has another number of rows."""
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        return None
    if array.ndim and array.shape[0] == rows:
        tail = array.shape[1:]
    elif rows == 1:  # a model that drops the batch's axis
        tail = array.shape
    else:
        return None
    if array.size == 0 or sum(size > 1 for size in tail) > 1 or array.size > rows * MOST_VALUES:
        return None
    return array.reshape(rows, -1)


def gathered(outputs: Sequence[Dict[str, Any]], rows: int, samples: int) -> Dict[str, Scores]:
    """The outputs that hold a row of values for each sample, over a whole data set. Rows after the
    last sample are filling."""
    found: Dict[str, Scores] = {}
    for name in outputs[0] if outputs else ():
        rowed = [rows_of(output[name], rows) for output in outputs if name in output]
        parts: List[Any] = [part for part in rowed if part is not None]
        if len(parts) < len(outputs) or any(p.shape != parts[0].shape for p in parts):
            continue
        joined: Any = np.concatenate(parts)[:samples]
        if len(joined) < samples:
            raise BadData("%d labels but only %d outputs" % (samples, len(joined)))
        found[name] = Scores(joined, np.asarray(outputs[0][name]).dtype.kind in "biu")
    return found


def class_labels(labels: Any) -> Any:
    """Labels as class numbers (samples,), or as 0 and 1 for each label (samples, labels).

    Raises:
        BadData: they are not whole numbers from 0 on; names the first that is not.
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise BadData(
            "labels are %s %s; accepted: class numbers from 0 (samples,), or 0 and 1 for each label"
            " (samples, labels)" % (array.dtype, list(array.shape))
        )
    known = np.nan_to_num(array, nan=-1.0, posinf=-1.0, neginf=-1.0)
    whole = (np.rint(known) if array.dtype.kind == "f" else known).astype(np.int64)
    wrong = np.argwhere((whole != array) | (whole < 0) | ((array.ndim == 2) & (whole > 1)))
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        raise BadData(
            "labels[%s] is %s; accepted: %s"
            % (
                ", ".join(map(str, at)),
                array[at],
                "0 and 1" if array.ndim == 2 else "class numbers from 0",
            )
        )
    return whole


def numbers(labels: Any) -> Any:
    """Class numbers (samples,) of labels that may be one-hot."""
    return labels.argmax(axis=1) if labels.ndim == 2 else labels


def predicted(scores: Scores, scoring: Scoring) -> Any:
    """Class numbers (samples,); of ``multilabel`` 0 and 1 (samples, labels)."""
    columns = scores.columns
    if scoring.task == MULTICLASS:
        return columns.argmax(axis=1)
    if scoring.task == LABELS:
        return np.rint(columns[:, 0].astype(np.float64)).astype(np.int64)
    above = columns > (scoring.threshold if scoring.threshold is not None else 0.5)
    return (above if scoring.task == MULTILABEL else above[:, 0]).astype(np.int64)


def threshold_of(scores: Scores) -> str:
    """A key of ``THRESHOLDS``: what the scores are, by their values."""
    low, high = float(scores.columns.min()), float(scores.columns.max())
    return "probability" if low >= -_SLACK and high <= 1.0 + _SLACK else "logit"


def with_threshold(scoring: Scoring, scores: Scores) -> Scoring:
    """The scoring with a threshold, where its task needs one and none is given."""
    if scoring.task not in (BINARY, MULTILABEL) or scoring.threshold is not None:
        return scoring
    kind = threshold_of(scores)
    why = (
        "all %d scores lie in 0…1, so they are probabilities" % scores.columns.size
        if kind == "probability"
        else "scores from %.3g to %.3g are logits"
        % (float(scores.columns.min()), float(scores.columns.max()))
    )
    how = ", ".join(word for word in (scoring.how, why) if word)
    return Scoring(scoring.task, scoring.output, THRESHOLDS[kind], how)


def score(scores: Scores, labels: Any, scoring: Scoring) -> Scored:
    """The share of samples that are predicted right. ``labels`` as ``class_labels`` gives them."""
    guesses = predicted(scores, scoring)
    wanted = labels if scoring.task == MULTILABEL else numbers(labels)
    if guesses.shape != wanted.shape:
        raise BadData(
            "labels are %s; %s gives %s"
            % (list(wanted.shape), scoring.output or "the output", list(guesses.shape))
        )
    accuracy = _share(guesses, wanted)
    return Scored(accuracy, len(wanted), _remarks(guesses, wanted, accuracy))


def _share(guesses: Any, wanted: Any) -> float:
    right = guesses == wanted
    return float(np.mean(right.all(axis=1) if right.ndim == 2 else right))


def _remarks(guesses: Any, wanted: Any, accuracy: float) -> List[str]:
    counted = _counts(wanted)
    if len(counted) == 1:
        only = next(iter(counted))
        return ["all %d labels are %s: the accuracy says little" % (len(wanted), only)]
    common = max(counted, key=lambda label: counted[label])
    chance = counted[common] / len(wanted)
    remarks = []
    if accuracy <= chance:
        remarks.append(
            "accuracy %.4f is at or below chance: always answering %s gives %.4f%s"
            % (accuracy, common, chance, _shifted(guesses, wanted, chance))
        )
    missing = _never(guesses, wanted)
    if missing:
        remarks.append(
            "never predicted: %s of the %d classes in the labels"
            % (_named(missing), _number_of_classes(wanted))
        )
    return remarks


def _counts(wanted: Any) -> Dict[Any, int]:
    values, counts = np.unique(wanted, axis=0, return_counts=True)
    return {
        (str(v.tolist()) if wanted.ndim == 2 else int(v)): int(c)
        for v, c in zip(values, counts)  # noqa: B905 - strict= is newer than 3.8
    }


def _shifted(guesses: Any, wanted: Any, chance: float) -> str:
    """A hint where the labels are right but for where they begin to count."""
    if wanted.ndim == 2:
        return ""
    for step, words in ((-1, "1 less"), (1, "1 more")):
        shifted = _share(guesses, wanted + step)
        if shifted > max(chance, 0.5):
            return (
                "; with every label %s it would be %.4f: labels count from 0, in the order of"
                " the model's classes" % (words, shifted)
            )
    return ""


def _never(guesses: Any, wanted: Any) -> List[int]:
    if wanted.ndim == 2:
        there, given = wanted.any(axis=0), guesses.any(axis=0)
        return [int(k) for k in np.flatnonzero(there & ~given)]
    return [int(k) for k in np.setdiff1d(wanted, guesses)]


def _number_of_classes(wanted: Any) -> int:
    return int(wanted.any(axis=0).sum()) if wanted.ndim == 2 else len(np.unique(wanted))


def _named(classes: Sequence[int]) -> str:
    shown = listed(str(c) for c in classes[:MOST_NAMED])
    more = len(classes) - MOST_NAMED
    return "%s and %d more" % (shown, more) if more > 0 else shown
