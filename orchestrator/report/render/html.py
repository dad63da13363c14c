"""The report as one self-contained HTML file: tables, charts, details of each cell, methods.

Names come from users: Jinja2 escapes all text, the charts' data cannot end their script element,
and the page's content security policy allows no other script and no network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.report import claims, columns, number_format
from orchestrator.report.build import build_report
from orchestrator.report.column import Column
from orchestrator.report.inputs import SweepData
from orchestrator.report.render import charts, tables
from orchestrator.report.render.chart_parts import Chart
from orchestrator.report.schema import CellRow, ModelGroup, SweepReport, Winner
from orchestrator.report.statistics import change_points, stability, stats
from orchestrator.report.statistics.chart_series import CellSeries, chart_series
from orchestrator.report.statistics.ranking import why_unranked

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

HERE = Path(__file__).parent


def html_report(sweep: SweepData) -> str:
    """A sweep's page, from its raw samples."""
    return render_html(build_report(sweep), chart_series(sweep))


def render_html(report: SweepReport, series: Mapping[str, CellSeries]) -> str:
    """The page as text. ``series``: data of the charts over samples, by cell id; empty where the
    samples were pruned."""
    from markupsafe import Markup

    anchors = {row.cell_id: f"cell-{i}" for i, row in enumerate(report.rows, start=1)}
    plots = _Plots()
    sections = [_section(i, report, g, series, anchors, plots) for i, g in enumerate(report.groups)]
    specs = script_json(plots.specs)
    attention = [_View(r, anchors[r.cell_id]) for r in report.rows if tables.reasons(r)]
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            baseline=tables.baseline_line(report),
            sections=sections,
            attention=sorted(attention, key=lambda view: _severity(view.row)),
            totals=_totals(report),
            needed={q: stats.samples_needed(q) for q in (50, 90, 99)},
            steady=stability,
            changes=change_points,
            style=Markup(_text("style.html")),
            specs=Markup(specs) if plots.specs else "",
            bundle=Markup(_bundle()) if plots.specs else "",
            boot=Markup(_text("script.html")),
            nonce=_nonce(report, specs),
        )
    )


class _View:
    """A row with its anchor in the page and its charts; other attributes are the row's."""

    def __init__(self, row: CellRow, anchor: str, plots: Sequence[Mapping[str, str]] = ()) -> None:
        self.row, self.anchor, self.charts = row, anchor, plots

    def __getattr__(self, name: str) -> Any:
        return getattr(self.row, name)


class _Plots:
    """The specs of all charts of the page, by the identifier of the chart's element."""

    def __init__(self) -> None:
        self.specs: dict[str, Any] = {}

    def add(self, found: Sequence[Chart]) -> list[dict[str, str]]:
        """Identifier, title and caption of each chart, for the template."""
        placed = []
        for chart in found:
            key = f"chart-{len(self.specs) + 1}"
            self.specs[key] = {k: v for k, v in chart.spec.items() if k != "$schema"}
            placed.append({"id": key, "title": chart.title, "caption": chart.caption})
        return placed


def _section(
    index: int,
    report: SweepReport,
    group: ModelGroup,
    series: Mapping[str, CellSeries],
    anchors: Mapping[str, str],
    plots: _Plots,
) -> dict[str, Any]:
    rows = report.rows_of(group)
    placed = plots.add(charts.group_charts(report, group, series))
    views = [_View(r, anchors[r.cell_id], plots.add(charts.cell_charts(r, series))) for r in rows]
    of_device: dict[str, list[_View]] = {}
    for view in views:
        of_device.setdefault(view.row.device, []).append(view)
    best = group.winner and report.row(group.winner.cell_id)
    return {
        "id": f"model-{index + 1}",
        "group": group,
        "ambiguous": sum(other.model == group.model for other in report.groups) > 1,
        "best": _View(best, anchors[best.cell_id]) if best else None,
        "caveat": claims.caveat(report, group, group.winner) if group.winner else "",
        "no_winner": "" if best else claims.no_winner(rows),
        "tied": _tied(report, group.winner, with_device=True) if group.winner else [],
        "devices": [
            {
                "device": w.device,
                "row": report.row(w.cell_id),
                "tied": ", ".join(_tied(report, w, with_device=False)),
                "caveat": claims.caveat(report, group, w),
            }
            for w in group.device_winners
        ],
        "rows": views,
        "by_device": list(of_device.items()),
        "columns": columns.shown("html", rows),
        "charts": placed,
    }


def _tied(report: SweepReport, winner: Winner, with_device: bool) -> list[str]:
    rows = [report.row(cell_id) for cell_id in winner.tied_with]
    return [f"{row.label} on {row.device}" if with_device else row.label for row in rows]


def _totals(report: SweepReport) -> dict[str, int]:
    measured = [row for row in report.rows if row.trials_measured]
    return {
        "ok": sum(not why_unranked(row) for row in report.rows),
        "cells": len(report.rows),
        "trials": sum(row.trials_measured for row in report.rows),
        "planned": sum(row.trials_planned for row in report.rows),
        "samples": sum(row.samples for row in report.rows),
        "devices": len({row.device for row in report.rows}),
        "unsteady": sum(row.trust.verdict != "steady" for row in measured),
    }


def _severity(row: CellRow) -> tuple[int, str, str]:
    order = ("failed", "invalid", "failed_fidelity", "failed_accuracy", "unsupported", "partial",
             "cancelled", "ok", "skipped", "pending")  # fmt: skip
    return order.index(row.status), row.model, row.label


def tone(row: CellRow) -> str:
    """The badge's CSS class: good, warn, bad, or empty for cells that were not run."""
    if row.status in ("failed", "invalid", "failed_fidelity", "failed_accuracy"):
        return "bad"
    if row.status == "ok":
        return "good" if row.trust.verdict == "steady" else "warn"
    return "warn" if row.status in ("partial", "unsupported") else ""


def heading(column: Column) -> Markup:
    """A column's heading in the page's table; its line feed breaks the line."""
    from markupsafe import Markup

    return Markup("<br>").join(column.heading("html").split("\n"))


def cell_text(column: Column, row: CellRow) -> str:
    """Text of a row in the page's table, where the column has no macro of its own."""
    return str(column.text_of("html", row))


def details(row: CellRow) -> Iterator[tuple[str, str]]:
    """Title and text of each entry in a cell's details."""
    for column in columns.shown("details", [row]):
        found = column.text_of("details", row)
        if isinstance(found, str):
            yield column.heading("details"), found
        else:
            yield from found.items()


def script_json(value: object) -> str:
    """JSON that can neither end the script element around it nor open a comment in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _nonce(report: SweepReport, specs: str) -> str:
    """A hash of the content: the same report gives the same page, and a name in the report cannot
    contain the nonce, which depends on it."""
    return hashlib.sha256((report.model_dump_json() + specs).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "point": number_format.point,
        "interval": number_format.interval,
        "number": number_format.number,
        "percent": number_format.percent,
        "cosine": number_format.cosine,
        "milliseconds": number_format.milliseconds,
        "rank": number_format.rank,
        "verdict": number_format.verdict,
        "reasons": tables.reasons,
        "words": number_format.words,
        "tone": tone,
        "heading": heading,
        "cell_text": cell_text,
        "details": details,
    }
    return made


@lru_cache(maxsize=4)
def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace(
        "</script", "<\\/script"
    )
