"""Vega-Lite charts of a report, built with Altair.

A spec contains its data and loads nothing; colours of text and grid come from the page, so that one
spec serves the light and the dark scheme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.palette import PALETTE
from orchestrator.report.render.chart_parts import Chart, Spec, chart_names, needs_log, scale_of
from orchestrator.report.render.sample_charts import distributions, timeline
from orchestrator.report.schema import CellRow, Estimate, ModelGroup, SweepReport
from orchestrator.report.statistics.chart_series import CellSeries
from orchestrator.report.statistics.pareto import loss
from orchestrator.report.statistics.ranking import why_unranked

MIN_LOSS = 1e-7
"""Where a cosine of 1 is drawn on the logarithmic axis: the resolution of float32."""
MARKS = {
    "fp32": "circle",
    "fp16": "square",
    "bf16": "diamond",
    "int8": "triangle-up",
    "fp8": "cross",
    "int4": "triangle-down",
}


def group_charts(
    report: SweepReport, group: ModelGroup, series: Mapping[str, CellSeries]
) -> list[Chart]:
    """The charts of one model and workload; empty where nothing was measured."""
    rows = [row for row in report.rows_of(group) if row.p50_ms.value is not None]
    if not rows:
        return []
    found = [latency(group, rows), throughput(group, rows), trade_off(group, rows)]
    found.append(distributions(group, rows, series))
    return [chart for chart in found if chart is not None]


def cell_charts(row: CellRow, series: Mapping[str, CellSeries]) -> list[Chart]:
    """The charts of one cell: latency during each trial."""
    found = series.get(row.cell_id)
    return [] if found is None else [timeline(row, found)]


def _datum(row: CellRow, name: str, figure: Estimate) -> Spec:
    return {
        "cell": name,
        "device": row.device,
        "backend": row.backend,
        "precision": row.precision,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "verdict": "may win" if not why_unranked(row) else why_unranked(row),
        "ranked": not why_unranked(row),
    }


def _bars(
    key: str, title: str, unit: str, caption: str, data: list[Spec], log: bool, points: bool
) -> Chart:
    """Horizontal bars or points with intervals, one per cell."""
    import altair as alt

    base = alt.Chart(alt.InlineData(values=data)).encode(
        y=alt.Y("cell:N", title=None, sort=None, axis=alt.Axis(labelLimit=320)),
        tooltip=[
            alt.Tooltip("cell:N"),
            alt.Tooltip("value:Q", title=unit, format=".4~s" if unit == "inferences/s" else ".4~f"),
            alt.Tooltip("low:Q", title="95 % low", format=".4~f"),
            alt.Tooltip("high:Q", title="95 % high", format=".4~f"),
            alt.Tooltip("verdict:N", title="ranking"),
        ],
    )
    scale = alt.Scale(type="log", nice=False, padding=24) if log else alt.Scale(zero=not points)
    x = alt.X("value:Q", title=unit, scale=scale, axis=alt.Axis(tickCount=8))
    opacity = alt.condition("datum.ranked", alt.value(1.0), alt.value(0.35))
    interval = base.mark_rule(strokeWidth=2).encode(x=x, color=_colour(data))
    interval = interval.encode(
        x=alt.X("low:Q", title=unit, scale=scale), x2="high:Q", opacity=opacity
    )
    if points:
        mark = base.mark_point(filled=True, size=70).encode(
            x=x, color=_colour(data), shape=_shape(data), opacity=opacity
        )
        layers = alt.layer(interval, mark)
    else:
        mark = base.mark_bar(height={"band": 0.65}).encode(
            x=x, color=_colour(data), opacity=opacity
        )
        ticks = base.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
        layers = alt.layer(mark, ticks)
    made = layers.properties(width="container", height={"step": 22})
    return Chart(key, title, caption, made.to_dict())


def _colour(data: Sequence[Spec]) -> Any:
    import altair as alt

    backends = sorted({d["backend"] for d in data})
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(backends))]
    return alt.Color("backend:N", title="backend", scale=alt.Scale(domain=backends, range=colours))


def _shape(data: Sequence[Spec]) -> Any:
    import altair as alt

    precisions = [p for p in MARKS if any(d["precision"] == p for d in data)]
    scale = alt.Scale(domain=precisions, range=[MARKS[p] for p in precisions])
    return alt.Shape("precision:N", title="precision", scale=scale)


def latency(group: ModelGroup, rows: Sequence[CellRow]) -> Chart:
    """p50 with its interval, per cell."""
    names = chart_names(rows)
    data = [_datum(row, names[row.cell_id], row.p50_ms) for row in rows]
    return _bars(
        f"latency-{group.model}-{group.workload}",
        "Latency (p50)",
        "p50 (ms)",
        "Geometric mean over trials of each trial's median; lines are 95 % confidence intervals "
        "(none for a single trial, which is not ranked). Pale: not ranked, because the outputs "
        "or the trials failed, or there is one trial.",
        data,
        needs_log([d["value"] for d in data]),
        points=True,
    )


def throughput(group: ModelGroup, rows: Sequence[CellRow]) -> Chart:
    """Inferences per second with intervals, per cell."""
    names = chart_names(rows)
    data = [_datum(r, names[r.cell_id], r.inferences_per_second) for r in rows]
    return _bars(
        f"throughput-{group.model}-{group.workload}",
        "Throughput",
        "inferences/s",
        "Total inferences over total time of the timed loops, with 95 % confidence intervals. "
        "Pale: not ranked.",
        data,
        log=False,
        points=False,
    )


def trade_off(group: ModelGroup, rows: Sequence[CellRow]) -> Chart | None:
    """Quality against latency with the Pareto front; ``None`` where no quality is known."""
    import altair as alt

    wrong = [row for row in rows if row.status in ("failed_fidelity", "failed_accuracy")]
    rows = [row for row in rows if row not in wrong]
    by_accuracy = all(row.top1 is not None for row in rows if not why_unranked(row))
    by_accuracy = by_accuracy and any(row.top1 is not None for row in rows)
    data = _trade_off_data(rows, by_accuracy)
    if not data:
        return None
    x_scale = scale_of([d["value"] for d in data], padding=24)
    y_scale = alt.Scale(zero=False, padding=20)
    if not by_accuracy:
        y_scale = alt.Scale(type="log", reverse=True, padding=20)
    title = "top-1 accuracy" if by_accuracy else _loss_title(rows)
    number = ".1%" if by_accuracy else ".1e"
    base = alt.Chart(alt.InlineData(values=data)).encode(
        x=alt.X("value:Q", title="p50 (ms)", scale=x_scale),
        y=alt.Y("quality:Q", title=title, scale=y_scale, axis=alt.Axis(format=number)),
    )
    dots = base.mark_point(filled=True, size=110).encode(
        color=_colour(data),
        shape=_shape(data),
        opacity=alt.condition("datum.ranked", alt.value(1.0), alt.value(0.3)),
        tooltip=[
            alt.Tooltip("cell:N"),
            alt.Tooltip("value:Q", title="p50 (ms)", format=".4~f"),
            alt.Tooltip("quality:Q", title=title, format=number),
            alt.Tooltip("memory:Q", title="peak RSS (MiB)", format=".0f"),
            alt.Tooltip("verdict:N", title="ranking"),
        ],
    )
    ring = base.transform_filter("datum.front").mark_point(size=330, strokeWidth=2, color="#888888")
    made = alt.layer(ring, dots).properties(width="container", height=320)
    objectives = ", ".join(group.pareto_objectives)
    caption = "Upper left is better. "
    if objectives:
        caption += f"Ringed: on the Pareto front of {objectives}. "
    if wrong:
        caption += f"Left out: {len(wrong)} whose outputs failed. "
    caption += "Pale: not ranked."
    key = f"trade-off-{group.model}-{group.workload}"
    return Chart(key, "Quality against latency", caption, made.to_dict())


def _loss_title(rows: Sequence[CellRow]) -> str:
    directed = all(row.fidelity.cosine is not None for row in rows if row.fidelity)
    what = "1 − cosine similarity" if directed else "share of the outputs that is wrong"
    return f"{what} (lower is nearer)"


def _trade_off_data(rows: Sequence[CellRow], by_accuracy: bool) -> list[Spec]:
    names = chart_names(rows)
    return [
        _datum(row, names[row.cell_id], row.p50_ms)
        | {"quality": quality, "memory": row.peak_rss_mib, "front": row.pareto}
        for row in rows
        if (quality := _quality(row, by_accuracy)) is not None
    ]


def _quality(row: CellRow, by_accuracy: bool) -> float | None:
    if by_accuracy:
        return row.top1
    return None if (found := loss(row)) is None else max(MIN_LOSS, found)
