"""The Pareto front of cells over latency, quality and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from orchestrator.report.schema import CellRow
from orchestrator.report.statistics.ranking import why_unranked

Objective = tuple[str, Callable[[CellRow], float | None]]


def front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which of ``points``, shape (n, objectives), are Pareto-optimal; each objective is minimised.

    A point dominates another if it is no worse in every objective and better in one; equal points
    are both on the front. Quadratic in n.
    """
    if not points:
        return []
    values = np.asarray(points, dtype=np.float64)
    kept = []
    for point in values:
        no_worse = np.all(values <= point, axis=1)
        better = np.any(values < point, axis=1)
        kept.append(not bool(np.any(no_worse & better)))
    return kept


def loss(row: CellRow) -> float | None:
    """How far the outputs are from the reference's, 0 to 1: 1 - cosine, or the share that is wrong
    where no output has a direction."""
    if row.fidelity is None:
        return None
    if row.fidelity.cosine is not None:
        return 1 - row.fidelity.cosine
    return row.fidelity.loss


def _rounded_loss(row: CellRow) -> float | None:
    return None if (found := loss(row)) is None else round(found, 4)


def _memory(row: CellRow) -> float | None:
    return None if row.peak_rss_mib is None else float(round(row.peak_rss_mib))


# Rounded, because noise would put nearly every cell on the front: beyond four digits the cosine is
# rounding of float32 sums, and peak RSS differs by less than 1 MiB between starts.
OBJECTIVES: tuple[Objective, ...] = (
    ("p50_ms", lambda row: row.p50_ms.value),
    ("1 - top1", lambda row: None if row.top1 is None else 1 - row.top1),
    ("1 - cosine", _rounded_loss),
    ("peak_rss_mib", _memory),
)


def cells_on_front(rows: Sequence[CellRow]) -> tuple[set[str], tuple[str, ...]]:
    """Ids of the Pareto-optimal cells, and the names of the objectives used.

    Only cells that may be ranked take part. Quality is accuracy where each of them has it, else
    cosine similarity; an objective that is unknown for one cell is left out for all.
    """
    candidates = [row for row in rows if not why_unranked(row)]
    known = [
        (n, read) for n, read in OBJECTIVES if all(read(row) is not None for row in candidates)
    ]
    if any(name == "1 - top1" for name, _ in known):
        known = [(name, read) for name, read in known if name != "1 - cosine"]
    if not candidates or len(known) < 2:
        return set(), ()
    points = [[read(row) or 0.0 for _, read in known] for row in candidates]
    kept = front(points)
    ids = {row.cell_id for row, on in zip(candidates, kept, strict=True) if on}
    return ids, tuple(name for name, _ in known)
