"""Speed-ups over the sweep's baseline, with tests of significance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.baseline import Baselines, ComparedCell
from orchestrator.report.schema import CellRow, Estimate, SpeedUp, SpeedVerdict
from orchestrator.report.statistics import stats
from orchestrator.report.statistics.estimates import ONE_TRIAL
from orchestrator.report.statistics.ranking import Medians

SIGNIFICANCE = 0.05
COMPARABLE = ("ok", "partial")
"""Statuses that may have a speed-up; cells whose outputs failed have none."""


@dataclass(frozen=True)
class SpeedUps:
    """Speed-ups by cell id, and of the comparable cells without one the reason."""

    found: Mapping[str, SpeedUp]
    reasons: Mapping[str, str]


def speed_ups(rows: Sequence[CellRow], medians: Medians, wanted: Mapping[str, str]) -> SpeedUps:
    """Each comparable cell's speed-up over its baseline; p-values are adjusted for all of them by
    Benjamini and Hochberg's method (``stats.adjust``)."""
    if not wanted:
        return SpeedUps({}, {})
    baselines = Baselines(map(compared, rows), wanted)
    by_id = {row.cell_id: row for row in rows}
    pairs: list[tuple[CellRow, CellRow, stats.Ratio]] = []
    found: dict[str, SpeedUp] = {}
    reasons: dict[str, str] = {}
    for row in rows:
        if row.status not in COMPARABLE:
            continue
        match = baselines.of(compared(row))
        base = by_id.get(match.cell_id)
        reason = match.reason if base is None else _no_figure(row, base, medians)
        if base is None or reason:
            reasons[row.cell_id] = reason
        elif base.cell_id == row.cell_id:
            itself = Estimate(unit="x", value=1.0, n=len(medians[row.cell_id]))
            found[row.cell_id] = _speed_up(base, itself, "baseline")
        else:
            pairs.append((row, base, stats.ratio(medians[base.cell_id], medians[row.cell_id])))
    tested = [ratio.p_value for _, _, ratio in pairs if ratio.p_value is not None]
    adjusted = iter(stats.adjust(tested))
    for row, base, ratio in pairs:
        q_value = next(adjusted) if ratio.p_value is not None else None
        figure = Estimate(
            unit="x",
            value=ratio.value,
            low=ratio.low,
            high=ratio.high,
            n=len(medians[row.cell_id]),
            reason="" if ratio.low is not None else _no_interval(row, base, medians),
        )
        found[row.cell_id] = _speed_up(base, figure, speed_verdict(ratio, q_value), q_value)
    return SpeedUps(found, reasons)


def compared(row: CellRow) -> ComparedCell:
    """A row as baselines are found. ``version`` is the one that ran, where a result says it."""
    return ComparedCell(
        cell_id=row.cell_id,
        device=row.device,
        model=row.model,
        workload=row.workload,
        backend=row.backend,
        version=row.version or row.runtime_version,
        target=row.target,
        precision=row.precision,
        threads=row.threads,
        batch_size=row.batch_size,
        format=row.format,
        via=row.via,
        calibration=row.calibration,
        options=row.options,
    )


def _no_figure(row: CellRow, base: CellRow, medians: Medians) -> str:
    """Why two cells have no ratio; empty where they have one."""
    if not medians.get(row.cell_id):
        return row.p50_ms.reason
    if base.status not in COMPARABLE:
        return f"its baseline, {_named(base)}, has no figure: {base.status.replace('_', ' ')}"
    if not medians.get(base.cell_id):
        return f"its baseline, {_named(base)}, has no figure: {base.p50_ms.reason}"
    return ""


def _no_interval(row: CellRow, base: CellRow, medians: Medians) -> str:
    alone = [cell for cell in (row, base) if len(medians[cell.cell_id]) < 2]
    return ONE_TRIAL if row in alone else f"its baseline, {_named(base)}, has {ONE_TRIAL}"


def _named(row: CellRow) -> str:
    return f"{row.label} on {row.device}"


def speed_verdict(ratio: stats.Ratio, q_value: float | None) -> SpeedVerdict:
    """Faster or slower where the interval excludes 1 and the adjusted p-value is at most 0.05."""
    if q_value is None:
        return "no_interval"
    if not ratio.shown or q_value > SIGNIFICANCE:
        return "no_difference_shown"
    return "faster" if ratio.value > 1 else "slower"


def _speed_up(
    base: CellRow, figure: Estimate, verdict: SpeedVerdict, q_value: float | None = None
) -> SpeedUp:
    return SpeedUp(
        estimate=figure,
        verdict=verdict,
        baseline_cell=base.cell_id,
        baseline_label=_named(base),
        q_value=q_value,
    )
