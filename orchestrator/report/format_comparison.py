"""A model's formats side by side: size, time, accuracy, and the best at equal accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.schema import CellRow, SweepReport


def ordered(report: SweepReport) -> list[CellRow]:
    """Measured cells, the fastest first, then the others."""
    return sorted(
        report.rows,
        key=lambda c: (c.p50_ms.value is None, c.p50_ms.value or 0.0, c.label),
    )


def as_accurate(cells: Sequence[CellRow]) -> list[CellRow]:
    """Measured cells that keep the source model's accuracy: top-1 is at least the source's, or,
    without a data set, the outputs are within tolerance of the reference."""
    return [
        c
        for c in cells
        if c.status == "ok"
        and c.p50_ms.value is not None
        and (c.top1 is None or c.reference_top1 is None or c.top1 >= c.reference_top1)
    ]


def best(report: SweepReport) -> tuple[CellRow, list[CellRow]] | None:
    """The fastest cell that is ``as_accurate`` and has an interval, and those not shown to be
    slower: their confidence intervals overlap with its own. ``None`` where there is no such cell.
    """
    candidates = [c for c in as_accurate(ordered(report)) if c.p50_ms.low is not None]
    if not candidates:
        return None
    first, *others = candidates
    return first, [c for c in others if not _slower(c, first)]


def _slower(cell: CellRow, first: CellRow) -> bool:
    low, high = cell.p50_ms.low, first.p50_ms.high
    return low is not None and high is not None and low > high
