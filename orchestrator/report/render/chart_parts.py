"""What the charts of a report share: the chart itself, names of cells, scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.report.schema import CellRow

Spec = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """``spec``: Vega-Lite JSON; ``caption``: what is shown and what is left out."""

    key: str
    title: str
    caption: str
    spec: Spec


def chart_names(rows: Sequence[CellRow]) -> dict[str, str]:
    """Name per cell id: the label, with the device where there are several."""
    several = len({row.device for row in rows}) > 1
    return {row.cell_id: f"{row.device} · {row.label}" if several else row.label for row in rows}


def needs_log(values: Sequence[float]) -> bool:
    """Whether values differ by more than a factor of ten, which needs a logarithmic axis."""
    return max(values) > 10 * min(values)


def scale_of(values: Sequence[float], **more: Any) -> Any:
    """A logarithmic scale where the values need one, else a linear one that may start above 0."""
    import altair as alt

    return alt.Scale(type="log", **more) if needs_log(values) else alt.Scale(zero=False, **more)
