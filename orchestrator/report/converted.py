"""How much of a network the conversion brought into a cell's precision."""

from __future__ import annotations

from collections.abc import Sequence

from agent.contract.precision_share import PrecisionShare, read_share
from orchestrator.report.number_format import NOTHING, percent
from orchestrator.report.schema import CellRow, PrecisionRow
from orchestrator.report.statistics.estimates import MeasuredTrial

WHOLE = 0.9995
"""From here on a share is shown as 100.0 %, and is all for people."""


def precision_share(usable: Sequence[MeasuredTrial]) -> PrecisionRow | None:
    """What the converters counted in the file that they wrote; the smallest share of a trial."""
    found = [read_share(measured.trial.result.conversion) for measured in usable]
    known = [share for share in found if share is not None]
    if not known:
        return None
    return _row(min(known, key=lambda share: _share(share.macs) or _share(share.weights) or 0.0))


def _row(share: PrecisionShare) -> PrecisionRow:
    return PrecisionRow(
        operators=_share(share.operators), weights=_share(share.weights), macs=_share(share.macs)
    )


def _share(counts: tuple[int, int]) -> float | None:
    return counts[0] / counts[1] if counts[1] else None


def _deciding(row: CellRow) -> tuple[float | None, str]:
    """The share that says most about the time: of MACs, else of weights, else of operators."""
    share = row.precision_share
    if share is None:
        return None, ""
    if share.macs is not None:
        return share.macs, "MACs"
    if share.weights is not None:
        return share.weights, "weights"
    return share.operators, "operators"


def has_share(rows: Sequence[CellRow]) -> bool:
    return any(row.precision_share for row in rows)


def is_partial(rows: Sequence[CellRow]) -> bool:
    """Whether a row's network is not wholly in its precision."""
    shares = [_deciding(row)[0] for row in rows]
    return any(share is not None and share < WHOLE for share in shares)


def in_words(row: CellRow) -> str:
    """``37.5% of MACs``."""
    share, what = _deciding(row)
    return NOTHING if share is None else f"{percent(share)} of {what}"
