"""Speed-ups over the baseline, ranks and winners, with tests of significance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.contract import versions
from orchestrator.report.schema import CellRow, Estimate, SpeedUp, SpeedVerdict, Winner
from orchestrator.report.statistics import stats
from orchestrator.report.statistics.estimates import ONE_TRIAL

SIGNIFICANCE = 0.05
COMPARABLE = ("ok", "partial")
"""Statuses that may have a speed-up; cells whose outputs failed have none."""
SHARED_FIELDS = ("target", "threads", "version", "batch_size", "options", "device")
"""Where several cells can be the baseline, the one that shares most of these fields is taken."""

Medians = Mapping[str, Sequence[float]]
"""Per-trial medians in milliseconds, by cell id."""


@dataclass(frozen=True)
class Rank:
    """A rank (1 is the fastest) and whether other cells share it."""

    rank: int
    tied: bool


def why_unranked(row: CellRow) -> str:
    """Why a cell may not be ranked; empty where it may."""
    if row.status != "ok":
        return {
            "failed_fidelity": "outputs differ from the FP32 reference",
            "failed_accuracy": "accuracy fell below the tolerance",
            "partial": "not every planned trial was measured",
        }.get(row.status, row.status)
    if row.fidelity is None and row.not_comparable:
        return "fidelity is not comparable: the source's own outputs differ from run to run"
    if row.fidelity is None:
        return "outputs were not verified"
    if not row.fidelity.passed:
        return "outputs differ from the FP32 reference"
    if row.accuracy_passed is False:
        return "accuracy fell below the tolerance"
    return "" if row.p50_ms.value is not None else row.p50_ms.reason


def ranks(rows: Sequence[CellRow], medians: Medians) -> dict[str, Rank]:
    """Ranks by p50 of the ``rows`` that may be ranked; they must be of one model and workload.

    A cell whose ratio to the first of the current rank is not shown to differ shares that rank.
    Cells of one trial have no interval to test with and are ordered by their value alone.
    """
    candidates = [row for row in rows if not why_unranked(row)]
    candidates.sort(key=lambda row: (row.p50_ms.value or 0.0, row.cell_id))
    found: dict[str, Rank] = {}
    leader: CellRow | None = None
    for position, row in enumerate(candidates, start=1):
        if leader is not None and _not_shown_to_differ(medians, leader.cell_id, row.cell_id):
            rank = found[leader.cell_id].rank
            found[leader.cell_id] = Rank(rank, True)
            found[row.cell_id] = Rank(rank, True)
            continue
        leader = row
        found[row.cell_id] = Rank(position, False)
    return found


def _not_shown_to_differ(medians: Medians, one: str, other: str) -> bool:
    ratio = stats.ratio(medians[other], medians[one])
    return ratio.p_value is not None and not ratio.shown


def winner(device: str, placed: Mapping[str, Rank]) -> Winner | None:
    """The first of a ranking and the cells tied with it."""
    first = [cell_id for cell_id, place in placed.items() if place.rank == 1]
    return Winner(device=device, cell_id=first[0], tied_with=tuple(first[1:])) if first else None


def baseline_of(row: CellRow, rows: Sequence[CellRow], wanted: Mapping[str, str]) -> CellRow | None:
    """The baseline cell of ``row``: same model and workload, matching every key of ``wanted``, on
    the same device unless ``wanted`` names one. If there are several, the one that shares most of
    ``SHARED_FIELDS`` with ``row``, then the fastest."""
    if not wanted:
        return None
    candidates = [
        other
        for other in rows
        if (other.model, other.workload) == (row.model, row.workload)
        and ("device" in wanted or other.device == row.device)
        and other.status in COMPARABLE
        and other.p50_ms.value is not None
        and all(_matches(other, key, str(value)) for key, value in wanted.items())
    ]

    def preference(other: CellRow) -> tuple[int, float, str]:
        shared = sum(getattr(other, key) == getattr(row, key) for key in SHARED_FIELDS)
        return (-shared, other.p50_ms.value or 0.0, other.cell_id)

    return min(candidates, key=preference) if candidates else None


def _matches(row: CellRow, key: str, wanted: str) -> bool:
    value = str(row.options[key] if key in row.options else getattr(row, key, None))
    return versions.fits(value, wanted) if key == "version" else value == wanted


def speed_ups(
    rows: Sequence[CellRow], medians: Medians, wanted: Mapping[str, str]
) -> dict[str, SpeedUp]:
    """Each comparable cell's speed-up over its baseline; p-values are adjusted for all of them by
    Benjamini and Hochberg's method (``stats.adjust``)."""
    pairs: list[tuple[CellRow, CellRow, stats.Ratio]] = []
    found: dict[str, SpeedUp] = {}
    for row in rows:
        base = baseline_of(row, rows, wanted) if row.status in COMPARABLE else None
        if base is None or not medians.get(row.cell_id) or not medians.get(base.cell_id):
            continue
        if base.cell_id == row.cell_id:
            found[row.cell_id] = _speed_up(base, Estimate(unit="x", value=1.0), "baseline")
            continue
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
            reason="" if ratio.low is not None else ONE_TRIAL,
        )
        found[row.cell_id] = _speed_up(base, figure, speed_verdict(ratio, q_value), q_value)
    return found


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
        baseline_label=f"{base.label} on {base.device}",
        q_value=q_value,
    )


def group_by(rows: Sequence[CellRow], key: Callable[[CellRow], str]) -> dict[str, list[CellRow]]:
    """Rows under each value of ``key``, in order of first appearance."""
    found: dict[str, list[CellRow]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
