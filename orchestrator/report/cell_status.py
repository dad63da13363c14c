"""A cell's status, output quality and failure, from its accepted results and trial states."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agent.contract import comparison
from agent.contract.trial import Accuracy, Failure, Fidelity
from orchestrator.domain.failure_cause import whose
from orchestrator.report.inputs import CellData
from orchestrator.report.schema import CellStatus, FailureRow, FidelityRow
from orchestrator.report.statistics import estimates as est
from orchestrator.report.statistics.estimates import MeasuredTrial

STATUS_PRIORITY: tuple[CellStatus, ...] = ("unsupported", "invalid", "failed", "cancelled")
"""Statuses without figures; the first that a trial has is the cell's."""


def cell_status(cell: CellData, usable: Sequence[MeasuredTrial]) -> tuple[CellStatus, str]:
    """The status and a sentence that explains it, which may be empty."""
    if usable:
        return _measured_status(cell, usable)
    if cell.skip_reason:
        return "skipped", cell.skip_reason
    if any(trial.result.status == "ok" for trial in cell.trials):
        return "invalid", "measured, but the samples are missing or hold a latency of zero"
    statuses = {trial.result.status for trial in cell.trials}
    for status in STATUS_PRIORITY:
        if status in statuses:
            return status, _progress(cell)
    if cell.state_counts and set(cell.state_counts) <= {"failed", "cancelled"}:
        return ("failed" if cell.state_counts.get("failed") else "cancelled"), _progress(cell)
    return "pending", _progress(cell)


def _measured_status(cell: CellData, usable: Sequence[MeasuredTrial]) -> tuple[CellStatus, str]:
    fidelity, top1_passed = worst_fidelity(usable), accuracy_passed(usable)
    if fidelity is not None and not fidelity.passed:
        return "failed_fidelity", (
            f"output {fidelity.worst_output} is too far from the FP32 reference: "
            f"{_missed(fidelity)}"
        )
    if top1_passed is False:
        worst = min(_accuracies(usable), key=lambda a: a.top1)
        known = (
            "" if worst.reference_top1 is None else f" (source model {worst.reference_top1:.1%})"
        )
        return "failed_accuracy", f"top-1 is {worst.top1:.1%}{known}"
    unlike = _unlike_runs(cell)
    if len(usable) < cell.planned_trials:
        measured = f"{len(usable)} of {cell.planned_trials} trials measured"
        return "partial", "; ".join(filter(None, (measured, unlike)))
    unverified = [m for m in usable if m.trial.result.status != "ok"]
    if unverified:
        measured = f"measured, but {est.of_trials(unverified, usable)} could not be verified"
        return "partial", "; ".join(filter(None, (measured, unlike)))
    return "ok", unlike


def _unlike_runs(cell: CellData) -> str:
    """Which outputs were not compared, because two runs of the source itself differ."""
    found = "; ".join(f"output {name}: {words}" for name, words in cell.unlike_runs.items())
    return f"fidelity not comparable: {found}" if found else ""


def _missed(fidelity: FidelityRow) -> str:
    """The criterion that was missed, its figure and its limit."""
    figure, limit = fidelity.figure, fidelity.limit
    if figure is None or limit is None:
        return (
            f"cosine {_cosine(fidelity.cosine or 0.0)}, largest difference {fidelity.max_abs:.3g}"
        )
    return comparison.described(
        comparison.Check(
            fidelity.worst_output,
            fidelity.criterion,
            figure,
            fidelity.unit,
            limit,
            0,
            comparison.FAILED,
        )
    )


def _cosine(value: float) -> str:
    """With two significant digits of the difference to 1, so that a failed cosine never reads as
    1.0000."""
    missing = 1.0 - value
    digits = 1 - math.floor(math.log10(missing)) if 0.0 < missing < 1e-3 else 4
    return f"{value:.{min(digits, 15)}f}"


def _progress(cell: CellData) -> str:
    states = ", ".join(f"{n} {state}" for state, n in sorted(cell.state_counts.items()) if n)
    given_up = f", {cell.not_run} of them not run after the others" if cell.not_run else ""
    return f"trials: {states}{given_up}" if states else ""


def _accuracies(usable: Sequence[MeasuredTrial]) -> list[Accuracy]:
    found = [m.trial.result.accuracy for m in usable]
    return [a for a in found if a is not None]


def worst_fidelity(usable: Sequence[MeasuredTrial]) -> FidelityRow | None:
    """Verification of the trial that came off worst: one that failed, else the one that is nearest
    to its limit; absent where one was not verified and none failed."""
    found = [m.trial.result.fidelity for m in usable]
    known: list[Fidelity] = [f for f in found if f is not None]
    if not known or (len(known) < len(found) and all(f.passed for f in known)):
        return None
    worst = min(known, key=lambda f: (f.passed, -_used(f), f.cosine))
    decides = worst.checks[0] if worst.checks else None
    notes = dict.fromkeys(f"output {c.output}: {c.note}" for c in worst.checks if c.note)
    by_cosine = not worst.checks or any(c.criterion == "cosine" for c in worst.checks)
    return FidelityRow(
        max_abs=worst.max_abs,
        max_rel=worst.max_rel,
        cosine=worst.cosine if by_cosine else None,
        psnr_db=worst.psnr_db,
        worst_output=worst.worst_output,
        passed=worst.passed,
        criterion=decides.criterion if decides else "",
        figure=decides.figure if decides else None,
        unit=decides.unit if decides else "",
        limit=decides.limit if decides else None,
        loss=1.0 - worst.cosine,
        notes=tuple(notes),
    )


def _used(fidelity: Fidelity) -> float:
    return max((c.used for c in fidelity.checks), default=0.0)


def accuracy_passed(usable: Sequence[MeasuredTrial]) -> bool | None:
    """Whether every trial's accuracy passed; ``None`` where one was not measured and none
    failed."""
    known = _accuracies(usable)
    if not all(a.passed for a in known):
        return False
    return True if known and len(known) == len(usable) else None


def accuracy_remark(usable: Sequence[MeasuredTrial]) -> str | None:
    """What makes the accuracy of the trial with the lowest one doubtful."""
    found = _worst_accuracy(usable)
    return found.remark or None if found else None


def top1(usable: Sequence[MeasuredTrial]) -> float | None:
    """Lowest top-1 accuracy of a trial; absent where a trial's was not measured."""
    return found.top1 if (found := _worst_accuracy(usable)) else None


def reference_top1(usable: Sequence[MeasuredTrial]) -> float | None:
    """Top-1 accuracy of the source model on the data of the trial with the lowest accuracy."""
    return found.reference_top1 if (found := _worst_accuracy(usable)) else None


def _worst_accuracy(usable: Sequence[MeasuredTrial]) -> Accuracy | None:
    est.of_every(usable, lambda m: a.top1 if (a := m.trial.result.accuracy) else None)
    return min(_accuracies(usable), key=lambda a: a.top1, default=None)


def failure_row(failure: Failure | None) -> FailureRow | None:
    """A trial's failure as the report shows it."""
    if failure is None:
        return None
    return FailureRow(
        stage=failure.stage,
        kind=failure.kind,
        message=failure.message,
        log_tail=failure.log_tail,
        fault=whose(failure).value,
    )


def cell_failure(cell: CellData, status: CellStatus) -> FailureRow | None:
    """The failure that gave the cell its status, else the last one among its trials."""
    failed = [t.result for t in cell.trials if t.result.failure is not None]
    own = [r for r in failed if r.status == status]
    return failure_row((own or failed)[-1].failure) if failed else None
