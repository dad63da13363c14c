"""Builds the report from a sweep's raw samples, without I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.domain.failure_cause import Fault
from orchestrator.report import claims, columns
from orchestrator.report.cell_status import cell_failure, cell_status, failure_row
from orchestrator.report.inputs import CellData, SweepData, TrialData
from orchestrator.report.labels import labels, workload
from orchestrator.report.schema import CellRow, ModelGroup, SweepReport, TrialRow, TrustRow, Winner
from orchestrator.report.statistics import estimates as est
from orchestrator.report.statistics import ranking, speed_ups, stats
from orchestrator.report.statistics.estimates import MeasuredTrial, measured, measured_trials
from orchestrator.report.statistics.pareto import cells_on_front
from orchestrator.report.statistics.stability import StabilityVerdict, judge_cell, judge_trial


def build_report(sweep: SweepData) -> SweepReport:
    """Every figure of ``sweep``, recomputed from its raw samples.

    Cells without figures have rows too, with the reason. The report does not need the samples.
    """
    label_of = labels(sweep.cells)
    usable = {cell.cell_id: measured_trials(cell) for cell in sweep.cells}
    rows = [cell_row(cell, label_of[cell.cell_id], usable[cell.cell_id]) for cell in sweep.cells]
    medians = {cell_id: est.medians_ms(trials) for cell_id, trials in usable.items()}
    rows = _with_speed_ups(rows, medians, sweep.baseline)
    rows, groups = _grouped(rows, medians)
    return SweepReport(
        name=sweep.name,
        created_at=sweep.created_at,
        state=sweep.state,
        benchfarm_version=sweep.benchfarm_version,
        spec_yaml=sweep.spec_yaml,
        baseline=dict(sweep.baseline),
        baseline_line=claims.baseline_line(sweep.baseline, rows),
        devices=dict(sweep.devices),
        groups=tuple(groups),
        rows=tuple(rows),
        notes=tuple(_notes(sweep, rows)),
    )


def cell_row(cell: CellData, label: str, usable: Sequence[MeasuredTrial]) -> CellRow:
    """One cell's row, without speed-up and ranks, which need the other cells."""
    status, note = cell_status(cell, usable)
    verdicts = {id(m.trial): judge_trial(m.trial.result, m.caller_ns) for m in usable}
    trials = [trial_row(t, verdicts.get(id(t))) for t in sorted(cell.trials, key=_trial_order)]
    trust = judge_cell(list(verdicts.values()))
    return CellRow(
        cell_id=cell.cell_id,
        label=label,
        device=cell.device,
        device_class=cell.device_class,
        model=cell.model,
        workload=workload(cell.scenario, cell.batch_size),
        backend=cell.backend,
        version=cell.version,
        target=cell.target,
        precision=cell.precision,
        threads=cell.threads,
        batch_size=cell.batch_size,
        options=dict(cell.options),
        calibration=cell.calibration,
        format=cell.format,
        via=cell.via,
        runtime_version=_reported(cell, "runtime_version"),
        environment=_reported(cell, "environment"),
        placement=_reported(cell, "placement"),
        artifact_format=_reported(cell, "artifact_format"),
        conversion=" / ".join(sorted({"; ".join(t.result.conversion) for t in cell.trials} - {""})),
        status=status,
        status_note=note,
        failure=cell_failure(cell, status) if status != "ok" else None,
        trust=TrustRow(verdict=trust.trust, reasons=trust.reasons),
        trials_measured=len(usable),
        trials_planned=cell.planned_trials,
        samples=sum(len(m.caller_ns) for m in usable),
        trials=tuple(trials),
        source_size_mib=cell.source_size_bytes / est.BYTES_PER_MIB or None,
        source_stored=cell.source_stored,
        not_comparable=tuple(cell.unlike_runs),
        **columns.computed(usable),
    )


def _trial_order(trial: TrialData) -> tuple[int, int]:
    return trial.index, trial.attempt


def _reported(cell: CellData, name: str) -> str:
    """The results' field ``name``; results that differ are joined by a slash."""
    found = {str(getattr(trial.result, name)) for trial in cell.trials}
    return " / ".join(sorted(found - {""}))


def trial_row(trial: TrialData, verdict: StabilityVerdict | None) -> TrialRow:
    """One trial's figures; without usable samples it has none."""
    result, found = trial.result, measured(trial)
    before, after = result.fingerprint_before, result.fingerprint_after
    figures: dict[str, Any] = _trial_figures(found) if found else {}
    return TrialRow(
        index=trial.index,
        attempt=trial.attempt,
        status=result.status,
        samples=len(found.caller_ns) if found else 0,
        stopped_by=result.samples.stopped_by if result.samples else "",
        overhead_s=est.overhead_s(trial),
        temperature_before_c=before.temperature_c if before else None,
        temperature_after_c=after.temperature_c if after else None,
        cpu_mhz_after=after.cpu_mhz if after else None,
        trust=TrustRow(verdict=verdict.trust, reasons=verdict.reasons)
        if verdict
        else TrustRow(verdict="unknown"),
        failure=failure_row(result.failure),
        telemetry={k: v for k, v in result.telemetry.items() if math.isfinite(v)},
        **figures,
    )


def _trial_figures(found: MeasuredTrial) -> dict[str, Any]:
    digits = est.clock_digits([found])
    samples_ms = found.caller_ns / est.NS_PER_MS
    shown: dict[str, Any] = {
        "effective_samples": stats.effective_sample_size(samples_ms),
        "mean_ms": round(float(samples_ms.mean()), digits),
        "inferences_per_second": found.inferences / found.seconds,
    }
    if len(samples_ms) >= stats.samples_needed(50):
        p50 = stats.percentile_interval(samples_ms, 50)
        shown["p50_ms"] = round(p50.value, digits)
        if p50.low is not None and p50.high is not None:
            shown["p50_low_ms"], shown["p50_high_ms"] = (
                round(p50.low, digits),
                round(p50.high, digits),
            )
    if len(samples_ms) >= stats.samples_needed(99) and found.calls_per_sample == 1:
        shown["p99_ms"] = round(stats.percentile(samples_ms, 99), digits)
    return shown


def _with_speed_ups(
    rows: Sequence[CellRow], medians: Mapping[str, Sequence[float]], baseline: Mapping[str, str]
) -> list[CellRow]:
    made = speed_ups.speed_ups(rows, medians, baseline)
    return [
        row.model_copy(
            update={
                "speed_up": made.found.get(row.cell_id),
                "speed_up_reason": made.reasons.get(row.cell_id, ""),
                "caveats": claims.row_caveats(row),
            }
        )
        for row in rows
    ]


def _grouped(
    rows: Sequence[CellRow], medians: Mapping[str, Sequence[float]]
) -> tuple[list[CellRow], list[ModelGroup]]:
    """Rows with ranks and Pareto marks, in the report's order, and their groups."""
    ordered: list[CellRow] = []
    groups: list[ModelGroup] = []
    keys = {(row.model, row.workload): None for row in rows}
    for model, load in keys:
        members = [row for row in rows if (row.model, row.workload) == (model, load)]
        overall = ranking.ranks(members, medians)
        on_device = {
            device: ranking.ranks(found, medians)
            for device, found in ranking.group_by(members, lambda row: row.device).items()
        }
        front, objectives = cells_on_front(members)
        ranked = [
            _with_ranks(
                row, on_device[row.device].get(row.cell_id), overall.get(row.cell_id), front
            )
            for row in members
        ]
        ranked.sort(key=_report_order)
        ordered += ranked
        winners = [ranking.winner(device, found) for device, found in on_device.items()]
        groups.append(
            ModelGroup(
                model=model,
                workload=load,
                cells=tuple(row.cell_id for row in ranked),
                winner=_with_caveats(ranking.winner("", overall), ranked),
                device_winners=tuple(
                    w for found in winners if (w := _with_caveats(found, ranked)) is not None
                ),
                pareto_objectives=objectives,
            )
        )
    return ordered, groups


def _with_caveats(winner: Winner | None, rows: Sequence[CellRow]) -> Winner | None:
    if winner is None:
        return None
    return winner.model_copy(update={"caveats": claims.caveats(winner, rows)})


def _with_ranks(
    row: CellRow, here: ranking.Rank | None, overall: ranking.Rank | None, front: set[str]
) -> CellRow:
    return row.model_copy(
        update={
            "rank": here.rank if here else None,
            "tied": bool(here and here.tied),
            "rank_overall": overall.rank if overall else None,
            "tied_overall": bool(overall and overall.tied),
            "rank_reason": ranking.why_unranked(row),
            "pareto": row.cell_id in front,
        }
    )


def _report_order(row: CellRow) -> tuple[str, int, float, str]:
    """By device; ranked cells first, then measured ones, then the rest."""
    measured_ms = row.p50_ms.value
    rank = row.rank if row.rank is not None else 1_000_000 + (measured_ms is None)
    return row.device, rank, measured_ms if measured_ms is not None else math.inf, row.label


def _notes(sweep: SweepData, rows: Sequence[CellRow]) -> list[str]:
    notes = []
    if waiting := sum(row.status == "pending" for row in rows):
        notes.append(
            f"The sweep is {sweep.state}: {waiting} of {len(rows)} cells have no result yet."
        )
    notes += _without_speed_up(rows)
    if any(row.trials_measured == 1 for row in rows):
        notes.append("Cells with 1 trial have no interval: they have no rank.")
    if any(row.calibration == "random" for row in rows):
        notes.append("Cells marked random calibration were quantised without data.")
    return notes + _doubts(rows) + _failure_causes(rows) + _missing_readings(sweep)


MOST_DOUBTS = 6


def _doubts(rows: Sequence[CellRow]) -> list[str]:
    """What comparisons and accuracies do not show, once for all cells of a model."""
    said = [
        (row.model, words)
        for row in rows
        for words in (*(row.fidelity.notes if row.fidelity else ()), row.accuracy_remark)
        if words
    ]
    counted = Counter(said)
    lines = [
        f"{model}, in {count} of {sum(row.model == model for row in rows)} cells: {words}."
        for (model, words), count in counted.most_common(MOST_DOUBTS)
    ]
    more = len(counted) - len(lines)
    return [*lines, f"{more} more remarks on accuracy are in the CSV."] if more else lines


def _without_speed_up(rows: Sequence[CellRow]) -> list[str]:
    """One note a reason for which comparable cells have no speed-up."""
    found: dict[str, list[CellRow]] = {}
    for row in rows:
        if row.speed_up_reason:
            found.setdefault(row.speed_up_reason, []).append(row)
    return [
        f"No speed-up of {cells[0].label} on {cells[0].device}"
        + (f" and {len(cells) - 1} more" if len(cells) > 1 else "")
        + f": {reason}."
        for reason, cells in found.items()
    ]


def _failure_causes(rows: Sequence[CellRow]) -> list[str]:
    """How many cells failed by the input, by their device, or by benchfarm itself."""
    failed = [row.failure for row in rows if row.status in ("failed", "invalid") and row.failure]
    counted = Counter(failure.fault for failure in failed)
    causes = [
        f"{counted[fault]} by {words}" for fault, words in FAULT_NAMES.items() if counted[fault]
    ]
    return [f"Cells that failed: {', '.join(causes)}."] if causes else []


FAULT_NAMES = {
    Fault.INPUT: "the model or what was asked of it",
    Fault.DEVICE: "their device",
    Fault.HARNESS: "benchfarm or its environments",
}
READINGS = {
    "temperature_c": "temperature",
    "cpu_mhz": "processor clock",
    "pressure_cpu_some_us": "processor pressure",
}
"""Readings that the trust verdict uses: field of ``Fingerprint`` → its name in notes."""


def _missing_readings(sweep: SweepData) -> list[str]:
    """Devices that lack a reading: their steady verdicts rest on the samples alone."""
    missing: dict[str, set[str]] = {}
    for cell in sweep.cells:
        for trial in cell.trials:
            seen = trial.result.fingerprint_after
            if seen is not None:
                absent = {name for name in READINGS if getattr(seen, name) is None}
                missing[cell.device] = missing.get(cell.device, set(READINGS)) & absent
    return [
        f"{device}: {', '.join(words for name, words in READINGS.items() if name in absent)} "
        "could not be read, so throttling or interference shows in the samples only."
        for device, absent in sorted(missing.items())
        if absent
    ]
