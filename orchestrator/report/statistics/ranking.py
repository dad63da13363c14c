"""Ranks and winners, with tests of significance.

A cell of one trial has no interval to test with: it is shown, and neither ranked nor able to
separate others. Its figure may be above or below theirs by chance alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.report.schema import CellRow, Winner
from orchestrator.report.statistics import stats

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
            "partial": "not every planned trial was measured and verified",
        }.get(row.status, row.status)
    if row.fidelity is None and row.not_comparable:
        return "fidelity is not comparable: the source's own outputs differ from run to run"
    if row.fidelity is None:
        return "outputs were not verified"
    if not row.fidelity.passed:
        return "outputs differ from the FP32 reference"
    if row.accuracy_passed is False:
        return "accuracy fell below the tolerance"
    if row.p50_ms.value is None or row.p50_ms.low is None:
        return row.p50_ms.reason
    return ""


def ranks(rows: Sequence[CellRow], medians: Medians) -> dict[str, Rank]:
    """Ranks by p50 of the ``rows`` that may be ranked; they must be of one model and workload.

    A cell whose ratio to the first of the current rank is not shown to differ shares that rank.
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


def group_by(rows: Sequence[CellRow], key: Callable[[CellRow], str]) -> dict[str, list[CellRow]]:
    """Rows under each value of ``key``, in order of first appearance."""
    found: dict[str, list[CellRow]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
