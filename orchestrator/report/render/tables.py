"""The report as terminal tables and as Markdown, from a ``SweepReport`` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.report import columns, number_format
from orchestrator.report.schema import CellRow, ModelGroup, SweepReport

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

CAPTION = "95 % confidence intervals over fresh-process trials; = marks a tie; * is explained below"


def winner_sentence(report: SweepReport, group: ModelGroup) -> str:
    """The fastest ranked configuration of a model, its latency, its speed-up and its ties."""
    if group.winner is None:
        return f"{group.model}: no configuration may be recommended."
    row = report.row(group.winner.cell_id)
    text = f"{group.model}: fastest is {row.label} on {row.device}, "
    text += f"p50 {number_format.point(row.p50_ms)}"
    text += f" ms {number_format.interval(row.p50_ms)}".rstrip()
    if row.speed_up is not None and row.speed_up.verdict in ("faster", "slower"):
        text += f", {number_format.speed_up(row)} against {row.speed_up.baseline_label}"
    if group.winner.tied_with:
        tied = [report.row(cell_id) for cell_id in group.winner.tied_with]
        text += "; not shown to differ from " + ", ".join(f"{r.label} on {r.device}" for r in tied)
    return text + "."


def terminal_table(report: SweepReport) -> list[RenderableType]:
    """One table per model and workload with its footnotes, for terminals of 100 to 140 columns."""
    from rich.text import Text

    made: list[RenderableType] = []
    for group in report.groups:
        rows = report.rows_of(group)
        made += [Text(winner_sentence(report, group), style="bold"), _table(group, rows)]
        made += [Text(note, style="dim") for note in footnotes(rows)]
        made.append(Text(""))
    made += [Text(f"Note: {note}", style="yellow") for note in report.notes]
    return made


def _table(group: ModelGroup, rows: Sequence[CellRow]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{group.model} · {group.workload}"
    table = Table(title=Text(title), caption=CAPTION, box=box.SIMPLE_HEAD, title_justify="left")
    shown = columns.shown("terminal", rows)
    for column in shown:
        heading, place = column.heading("terminal"), column.terminal
        if column.text:
            width = place.min_width if place else None
            table.add_column(heading, overflow="fold", min_width=width)
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    numbers, device = _numbered(rows), ""
    for row in rows:
        if row.device != device:
            device = row.device
            table.add_section()
            table.add_row("", Text(device, style="bold cyan"))
        texts = [str(column.text_of("terminal", row)) for column in shown]
        if row.cell_id in numbers:
            texts[-1] += f" *{numbers[row.cell_id]}"
        table.add_row(*(Text(text) for text in texts), style=_style(row))
    return table


def _style(row: CellRow) -> str:
    if row.rank is None:
        return "dim"
    return "bold green" if row.rank == 1 else ""


def reasons(row: CellRow) -> list[str]:
    """Why a row has no figures, has no rank, or is not steady; one sentence each."""
    found = [row.status_note] if row.status_note else []
    if row.failure is not None:
        kind = ", ".join(filter(None, (row.failure.kind, row.failure.fault)))
        found.append(f"{row.failure.stage}: {row.failure.message} ({kind})")
    if row.rank_reason and row.status == "ok":
        found.append(f"not ranked: {row.rank_reason}")
    return [*found, *(row.trust.reasons if row.trials_measured else ())]


def _numbered(rows: Sequence[CellRow]) -> dict[str, int]:
    explained = [row.cell_id for row in rows if reasons(row)]
    return {cell_id: number for number, cell_id in enumerate(explained, start=1)}


def footnotes(rows: Sequence[CellRow]) -> list[str]:
    """``*1 tensorrt int8 on board-a: load: …`` for every row that needs one."""
    numbers = _numbered(rows)
    return [
        f"*{numbers[row.cell_id]} {row.label} on {row.device}: {'; '.join(reasons(row))}"
        for row in rows
        if row.cell_id in numbers
    ]


def markdown(report: SweepReport) -> str:
    """The report as GitHub-flavoured Markdown, intervals in brackets."""
    lines = [f"# {_md(report.name)}", ""]
    lines.append(
        f"{report.created_at:%Y-%m-%d %H:%M} UTC · benchfarm {_md(report.benchfarm_version)}"
        f" · {_md(report.state)}"
    )
    for group in report.groups:
        rows = report.rows_of(group)
        lines += ["", f"## {_md(group.model)}, {_md(group.workload)}", ""]
        lines += [_md(winner_sentence(report, group)), ""]
        shown = columns.shown("markdown", rows)
        lines.append(_line([column.heading("markdown") for column in shown]))
        lines.append(_line(["---"] * len(shown)))
        for row in rows:
            lines.append(_line([_md(str(c.text_of("markdown", row))) for c in shown]))
        if notes := footnotes(rows):
            lines += ["", *(f"- {_md(note)}" for note in notes)]
    lines += ["", f"{CAPTION}."]
    lines += [f"\n> {_md(note)}" for note in report.notes]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    """Escape a name, which comes from a user: no line breaks, HTML, emphasis or links."""
    escaped = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
    for mark in ("\\", "|", "`", "*", "_", "[", "]"):
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
