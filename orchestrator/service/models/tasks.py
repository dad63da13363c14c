"""The task of a model, as people declare it."""

from __future__ import annotations

import math

from agent.contract import codec
from agent.contract.scoring import BINARY, MULTICLASS, MULTILABEL, TASKS, Scoring
from agent.contract.trial import DatasetRef
from orchestrator.domain.errors import UserError
from orchestrator.store.tables import Model


def declared(task: str, output: str, threshold: float | None) -> Scoring | None:
    """What was declared; ``None``: nothing. Empty fields are found.

    Raises:
        UserError: an unknown task, or a threshold for a task that has none.
    """
    if not task and not output and threshold is None:
        return None
    if task and task not in TASKS:
        raise UserError(f"task {task!r} is unknown; accepted: {', '.join(TASKS)}")
    if threshold is not None and task not in ("", BINARY, MULTILABEL):
        raise UserError(f"task {task} has no threshold; {BINARY} and {MULTILABEL} have one")
    if threshold is not None and not math.isfinite(threshold):
        raise UserError(f"threshold {threshold}: expected a finite number")
    return Scoring(task, output, threshold)


def same(scoring: Scoring, existing: Model) -> bool:
    """Whether a model's task is what was declared, where that says something."""
    if not existing.dataset:
        return False
    kept = codec.from_plain(DatasetRef, existing.dataset).scoring
    if kept is None:
        kept = Scoring(MULTICLASS, existing.outputs[0]["name"])
    return (
        scoring.task in ("", kept.task)
        and scoring.output in ("", kept.output)
        and scoring.threshold in (None, kept.threshold)
    )
