"""Recognises a model's task from its outputs on a labelled data set, or checks a declared one."""

from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, NoReturn, Optional, Sequence

import numpy as np

from agent.contract.failures import BadData, listed
from agent.contract.scoring import BINARY, LABELS, MULTICLASS, MULTILABEL, NOT_SCORED, Scoring
from agent.runner.scoring import Scores, numbers, predicted, score, with_threshold

HOW_TO_SAY = (
    "say what is scored with --task multiclass|binary|multilabel|labels and --score-output NAME,"
    " or --task none to use the data set for inputs and calibration only"
)


class _Candidate(NamedTuple):
    scoring: Scoring
    scores: Scores


class _TooFew(NamedTuple):
    """An output that has fewer classes than the labels go up to."""

    output: str
    width: int

    @property
    def classes(self) -> int:
        return max(2, self.width)


def find(
    scores: Mapping[str, Scores],
    shapes: Mapping[str, Sequence[int]],
    labels: Any,
    wanted: Optional[Scoring] = None,
) -> Scoring:
    """The task: which output is scored, how, and with which threshold.

    Args:
        scores: the outputs that hold a row of values for each sample, in the model's order.
        shapes: every output's shape.
        labels: as ``scoring.class_labels`` gives them.
        wanted: what was declared; its empty fields are found.

    Raises:
        BadData: nothing can be scored, several outputs could be, or labels are out of range; the
            message says how to declare the task.
    """
    wanted = wanted or Scoring("")
    if wanted.task == NOT_SCORED:
        return Scoring(NOT_SCORED, how="declared")
    _require_known(wanted, scores, shapes)
    tried = {wanted.output: scores[wanted.output]} if wanted.output else dict(scores)
    found: List[_Candidate] = []
    too_few: List[_TooFew] = []
    for name, one in tried.items():
        task = _task(one, labels, wanted)
        if task:
            how = "declared" if wanted.task else _evidence(one, labels)
            scoring = Scoring(task, name, wanted.threshold, how)
            found.append(_Candidate(with_threshold(scoring, one), one))
        elif _classes(one) and labels.ndim == 1 and labels.max() >= _classes(one):
            too_few.append(_TooFew(name, one.columns.shape[1]))
    found = _preferred(found, too_few)
    if found:
        return _only(found, labels)
    if too_few and wanted.task != LABELS:
        _out_of_range(labels, too_few[0])
    _nothing(shapes, labels, wanted)


def first_output(names: Sequence[str], labels: Any, scoring: Scoring) -> bool:
    """Whether it is what agents of 0.1 do: the arg-max of the first output, labels in a row."""
    return (
        scoring.task == MULTICLASS
        and list(names[:1]) == [scoring.output]
        and np.asarray(labels).ndim == 1
    )


def _require_known(
    wanted: Scoring, scores: Mapping[str, Scores], shapes: Mapping[str, Sequence[int]]
) -> None:
    if not wanted.output or wanted.output in scores:
        return
    if wanted.output not in shapes:
        raise BadData("--score-output %s: the outputs are %s" % (wanted.output, listed(shapes)))
    raise BadData(
        "--score-output %s: it is %s, no row of values for each sample; %s"
        % (wanted.output, list(shapes[wanted.output]), HOW_TO_SAY)
    )


def _task(one: Scores, labels: Any, wanted: Scoring) -> str:
    """The task of an output; empty where it cannot be scored, or not as it was declared."""
    possible = _possible(one, labels)
    if wanted.task:
        return wanted.task if wanted.task in possible else ""
    if wanted.threshold is not None:  # only two tasks have one
        return next((task for task in (BINARY, MULTILABEL) if task in possible), "")
    task = _recognised(one, labels)
    return task if task in possible else ""


def _possible(one: Scores, labels: Any) -> List[str]:
    """The tasks that the shapes allow."""
    width = one.columns.shape[1]
    if labels.ndim == 1:
        highest = labels.max()
        if width > 1:
            return [MULTICLASS] if highest < width else []
        return [LABELS, BINARY] if highest <= 1 else [LABELS]
    if width == labels.shape[1]:
        return [MULTILABEL, MULTICLASS] if _one_hot(labels) else [MULTILABEL]
    return [LABELS] if width == 1 and _one_hot(labels) else []


def _recognised(one: Scores, labels: Any) -> str:
    """The most likely task, by the values; empty where they look like none."""
    columns, width = one.columns, one.columns.shape[1]
    if labels.ndim == 2 and width == labels.shape[1]:
        return MULTICLASS if _one_hot(labels) and not one.whole else MULTILABEL
    if width > 1:
        return MULTICLASS if _classes(one) else ""
    whole = bool((columns == np.rint(columns)).all()) and columns.min() >= 0
    two = bool(np.isin(columns, (0, 1)).all())
    if one.whole:
        # an 8-bit score without a scale is not a class number
        quantised = columns.dtype.kind != "b" and columns.dtype.itemsize == 1
        return "" if quantised and labels.max() <= 1 and not two else LABELS
    if labels.max() <= 1:
        return BINARY
    return LABELS if whole and not two else ""


def _classes(one: Scores) -> int:
    """How many classes an output has scores for; 0: its values are no scores."""
    columns, width = one.columns, one.columns.shape[1]
    if one.whole and columns.dtype.itemsize > 2:  # such as the indices of the best five
        return 0
    if width > 1:
        return int(width)
    return 0 if one.whole else 2


def _one_hot(labels: Any) -> bool:
    return bool(labels.ndim == 2 and labels.shape[1] > 1 and (labels.sum(axis=1) == 1).all())


def _preferred(found: List[_Candidate], too_few: Sequence[_TooFew]) -> List[_Candidate]:
    """Scores before class numbers: scores have an order that a class number does not show. Class
    numbers alone count where they, like the labels, go beyond the scores' columns."""
    scored = [c for c in found if c.scoring.task != LABELS]
    if scored or not too_few:
        return scored or found
    classes = max(few.classes for few in too_few)
    return [c for c in found if c.scores.columns.max() >= classes]


def _only(found: List[_Candidate], labels: Any) -> Scoring:
    """The candidate, where there is one, or all predict the same, or one alone has as many classes
    as the labels."""
    first = found[0]
    guesses = predicted(first.scores, first.scoring)
    if all(np.array_equal(predicted(c.scores, c.scoring), guesses) for c in found[1:]):
        return first.scoring
    classes = int(numbers(labels).max()) + 1
    fitting = [c for c in found if c.scores.columns.shape[1] == classes]
    if len(fitting) == 1:
        return fitting[0].scoring
    raise BadData(
        "several outputs could be scored, and they predict differently: %s; say which with"
        " --score-output NAME"
        % listed(
            "%s (%s, accuracy %.4f)"
            % (c.scoring.output, c.scoring.task, score(c.scores, labels, c.scoring).accuracy)
            for c in found
        )
    )


def _evidence(one: Scores, labels: Any) -> str:
    width = one.columns.shape[1]
    values = "1 value" if width == 1 else "%d values" % width
    if labels.ndim == 2:
        kind = "%s of %d" % ("one-hot labels" if _one_hot(labels) else "labels", labels.shape[1])
    else:
        kind = "labels %d…%d" % (int(labels.min()), int(labels.max()))
    return "recognised by %s a sample and %s" % (values, kind)


def _out_of_range(labels: Any, few: _TooFew) -> NoReturn:
    at = int(np.flatnonzero(labels >= few.classes)[0])
    counts_from_1 = labels.min() >= 1 and labels.max() == few.classes
    raise BadData(
        "labels[%d] is %d; output %s has %s: accepted are 0…%d%s; if another"
        " output is meant, name it with --score-output NAME"
        % (
            at,
            int(labels[at]),
            few.output,
            "%d classes" % few.width if few.width > 1 else "one score a sample",
            few.classes - 1,
            " (the labels seem to count from 1: subtract 1)" if counts_from_1 else "",
        )
    )


def _nothing(shapes: Mapping[str, Sequence[int]], labels: Any, wanted: Scoring) -> NoReturn:
    outputs = listed("%s %s" % (name, list(shape)) for name, shape in shapes.items())
    kind = "labels %s" % list(labels.shape)
    if labels.ndim == 1:
        kind += " of %d…%d" % (int(labels.min()), int(labels.max()))
    asked = " as %s" % wanted.task if wanted.task else ""
    raise BadData("%s cannot be scored%s against %s; %s" % (outputs, asked, kind, HOW_TO_SAY))
