"""Charts over raw samples: their distribution, and latency during each trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from orchestrator.report.palette import PALETTE
from orchestrator.report.render.chart_parts import Chart, Spec, chart_names, needs_log, scale_of
from orchestrator.report.schema import CellRow, ModelGroup
from orchestrator.report.statistics.chart_series import ECDF_POINTS, TIME_BLOCKS, CellSeries
from orchestrator.report.statistics.ranking import why_unranked

MAX_CURVES = 12
"""Most curves in a distribution chart; the fastest cells are kept."""


def distributions(
    group: ModelGroup, rows: Sequence[CellRow], series: Mapping[str, CellSeries]
) -> Chart | None:
    """Empirical cumulative distribution functions of the samples, one curve per cell."""
    import altair as alt

    candidates = [row for row in rows if row.cell_id in series]
    candidates.sort(key=lambda row: (bool(why_unranked(row)), row.p50_ms.value or 0.0))
    kept = candidates[:MAX_CURVES]
    if not kept:
        return None
    names = chart_names(rows)
    curves: dict[str, Any] = {"values": []}
    for row in kept:
        for i, value in enumerate(series[row.cell_id].quantiles_ms):
            share = i / (ECDF_POINTS - 1)
            curves["values"].append({"cell": names[row.cell_id], "ms": value, "share": share})
    order = [names[row.cell_id] for row in kept]
    shown = [v["ms"] for v in curves["values"]]
    scale = scale_of(shown, nice=False, padding=8)
    colours = alt.Scale(domain=order, range=[PALETTE[i % len(PALETTE)] for i in range(len(order))])
    dashes = alt.Scale(domain=order, range=[[1, 0] if i < 8 else [5, 3] for i in range(len(order))])
    legend = alt.Legend(labelLimit=260, columns=2, orient="bottom")
    made = (
        alt.Chart(alt.InlineData(**curves))
        .mark_line(strokeWidth=1.8, interpolate="linear")
        .encode(
            x=alt.X("ms:Q", title="latency (ms)", scale=scale),
            y=alt.Y("share:Q", title="share of samples", axis=alt.Axis(format="%")),
            color=alt.Color("cell:N", title=None, sort=None, scale=colours, legend=legend),
            strokeDash=alt.StrokeDash("cell:N", title=None, sort=None, scale=dashes),
            order="share:Q",
            tooltip=[alt.Tooltip("cell:N"), alt.Tooltip("ms:Q", format=".4~f"), "share:Q"],
        )
        .properties(width="container", height=300)
    )
    total = sum(series[row.cell_id].samples for row in kept)
    caption = (
        f"All {total:,} samples, each trial with the same weight; {ECDF_POINTS} quantiles per cell."
    )
    if len(candidates) > len(kept):
        caption += f" The {len(kept)} fastest of {len(candidates)} cells."
    key = f"distribution-{group.model}-{group.workload}"
    return Chart(key, "Distribution of latency", caption, made.to_dict())


def timeline(row: CellRow, found: CellSeries) -> Chart:
    """Latency over time in each trial, where drift, warm-up and throttling are visible."""
    data: list[Spec] = [
        {"trial": f"trial {b.trial}", "at": b.at_s, "low": b.low_ms, "mid": b.median_ms,
         "high": b.high_ms}
        for b in found.timeline
    ]  # fmt: skip
    log = needs_log([b.low_ms for b in found.timeline] + [b.high_ms for b in found.timeline])
    spec = _timeline_spec(log) | {"datasets": {"blocks": data}}
    caption = (
        f"Each trial in at most {TIME_BLOCKS} blocks of consecutive samples: line, the block's "
        "median; band, its minimum to maximum. No sample is left out of the band."
    )
    return Chart(f"timeline-{row.cell_id}", "Latency during each trial", caption, spec)


@lru_cache(maxsize=2)
def _timeline_spec(log: bool) -> Spec:
    """The spec without its data, cached: every cell has this chart, and Altair validates slowly."""
    import altair as alt

    colour = alt.Color("trial:N", title=None, sort=None, scale=alt.Scale(range=list(PALETTE)))
    scale = scale_of((1.0, 100.0) if log else (1.0, 1.0))
    base = alt.Chart(alt.NamedData("blocks")).encode(
        x=alt.X("at:Q", title="seconds of measuring"), color=colour
    )
    band = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", title="latency (ms)", scale=scale), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=1.5).encode(
        y=alt.Y("mid:Q", title="latency (ms)", scale=scale),
        tooltip=["trial:N", alt.Tooltip("mid:Q", title="median (ms)", format=".4~f")],
    )
    made: Spec = alt.layer(band, line).properties(width="container", height=200).to_dict()
    return made
