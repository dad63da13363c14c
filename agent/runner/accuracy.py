"""Accuracy of a session on a labelled data set: of the source model, and of a cell."""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from agent.contract.failures import BadData
from agent.contract.scoring import MULTICLASS, NOT_SCORED, Scoring
from agent.contract.trial import Accuracy, TensorSpec, Tolerance
from agent.runner import scoring, task
from agent.runner.feeds import sample_feeds
from agent.runner.inference import infer
from agent.runner.tensor_mapping import TensorMapping
from agent.runtimes.backend import Session

Data = Mapping[str, Any]
"""``inputs`` and ``labels`` of a data set."""


class SourceAccuracy(NamedTuple):
    """Accuracy of a model's source, and the task that was found; see ``Referenced``."""

    top1: Optional[float] = None
    scoring: Optional[Scoring] = None
    usual: bool = False
    remarks: Tuple[str, ...] = ()


def of_source(wanted: Optional[Scoring], session: Session, data: Data) -> SourceAccuracy:
    """The model's task and its accuracy on the data set. ``wanted``: what was declared.

    Raises:
        BadData: the labels do not fit the outputs, or nothing says what is scored.
    """
    if wanted is not None and wanted.task == NOT_SCORED:
        return SourceAccuracy(scoring=task.find({}, {}, None, wanted))
    labels = scoring.class_labels(data["labels"])
    outputs = _outputs(session, session.inputs, data)
    scores = scoring.gathered(outputs, session.inputs[0].shape[0], len(labels))
    shapes = {name: np.shape(array) for name, array in outputs[0].items()}
    found = task.find(scores, shapes, labels, wanted)
    result = scoring.score(scores[found.output], labels, found)
    usual = task.first_output(list(shapes), data["labels"], found)
    return SourceAccuracy(result.accuracy, found, usual, tuple(result.remarks))


def scored_output(wanted: Optional[Scoring], outputs: Sequence[TensorSpec]) -> str:
    """The model's output that is scored; empty: none is. Without a task it is the first."""
    if wanted is None:
        return outputs[0].name if outputs else ""
    return "" if wanted.task == NOT_SCORED else wanted.output


def of_cell(
    wanted: Optional[Scoring],
    session: Session,
    specs: Sequence[TensorSpec],
    data: Data,
    mapping: TensorMapping,
    names: Sequence[str],
) -> Optional[scoring.Scored]:
    """A cell's accuracy; ``None``: its task is not scored.

    Args:
        wanted: the model's task; ``None``: the arg-max of its first output.
        specs: the model's inputs, in the shapes of the data set's samples.
        names: the model's outputs, in order; an artifact may call them otherwise. Empty: as the
            artifact calls them.
    """
    found = wanted or Scoring(MULTICLASS, names[0] if names else "")
    if found.task == NOT_SCORED:
        return None
    try:
        labels = scoring.class_labels(data["labels"])
        outputs = _outputs(
            session, specs, data, mapping, lambda given: _own_name(found.output, given, names)
        )
        scores = list(scoring.gathered(outputs, specs[0].shape[0], len(labels)).values())
        if not scores or (wanted is None and scores[0].columns.shape[1] < 2):
            raise BadData("output %s has no scores for each sample" % found.output)
    except BadData as error:
        if wanted is not None:
            raise
        # registered by a release that looked at neither labels nor outputs
        sys.stderr.write("no accuracy: %s; register the model again\n" % error)
        return None
    return scoring.score(scores[0], labels, found)


def _own_name(name: str, given: Sequence[str], names: Sequence[str]) -> str:
    """What an artifact calls the model's output: matched in order where names differ; its first one
    where the model names none."""
    if not name and given:
        return given[0]
    if name in given or name not in names or len(given) != len(names):
        return name
    return given[list(names).index(name)]


def _outputs(
    session: Session,
    specs: Sequence[TensorSpec],
    data: Data,
    mapping: Optional[TensorMapping] = None,
    scored: Optional[Callable[[Sequence[str]], str]] = None,
) -> List[Dict[str, Any]]:
    """A session's outputs on all of the data set's ``inputs``, feed by feed. ``scored``: from the
    names of the outputs to the one that is kept; all are without it."""
    samples, labels = data["inputs"], data["labels"]
    if len(samples) != len(labels):
        raise BadData("%d samples but %d labels" % (len(samples), len(labels)))
    rows = specs[0].shape[0]
    outputs: List[Dict[str, Any]] = []
    for feed in sample_feeds(samples, specs, "inputs"):
        given = infer(session, feed, mapping)
        if scored is not None:
            own = scored(list(given))
            given = {name: array for name, array in given.items() if name == own}
        if outputs:  # more images and maps would only fill the memory
            given = {n: a for n, a in given.items() if scoring.rows_of(a, rows) is not None}
        outputs.append(given)
    return outputs


def against_source(
    found: scoring.Scored, reference: Optional[float], tolerance: Tolerance
) -> Accuracy:
    """``passed`` where the accuracy is at most ``max_top1_drop`` below ``reference``, the source
    model's, or that is unknown."""
    drop = 0.0 if reference is None else reference - found.accuracy
    # Rounding must not decide: 0.9 - 0.89 is over 0.01 in floats.
    passed = drop <= tolerance.max_top1_drop + 1e-9
    return Accuracy(found.accuracy, found.samples, reference, passed, "; ".join(found.remarks))
