"""The report as terminal tables and as Markdown, from a ``SweepReport`` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.report import claims, columns
from orchestrator.report.schema import CellRow, ModelGroup, SweepReport

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

CAPTION = "95 % confidence intervals over fresh-process trials; = marks a tie; * is explained below"


def terminal_table(report: SweepReport) -> list[RenderableType]:
    """One table per model and workload with its footnotes, for terminals of 100 to 140 columns."""
    from rich.text import Text

    made: list[RenderableType] = [Text(baseline_line(report)), Text("")]
    for group in report.groups:
        rows = report.rows_of(group)
        made.append(Text(claims.claim(report, group), style="bold"))
        if group.winner and (caveat := claims.caveat(report, group, group.winner)):
            made.append(Text(caveat, style="bold yellow"))
        made.append(_table(group, rows))
        made += [Text(note, style="dim") for note in (*footnotes(rows), *absent_figures(rows))]
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
    first = "bold yellow" if claims.row_caveats(row) else "bold green"
    return first if row.rank == 1 else ""


def reasons(row: CellRow) -> list[str]:
    """Why a row has no figures, has no rank, or is not steady; one sentence each."""
    found = [row.status_note] if row.status_note else []
    if row.failure is not None:
        kind = ", ".join(filter(None, (row.failure.kind, row.failure.fault)))
        found.append(f"{row.failure.stage}: {row.failure.message} ({kind})")
    if row.rank_reason and row.status == "ok":
        found.append(f"not ranked: {row.rank_reason}")
    return [*found, *(row.trust.reasons if row.trials_measured else ())]


def baseline_line(report: SweepReport) -> str:
    """The stored line; reports of earlier releases have none."""
    return report.baseline_line or claims.baseline_line(report.baseline, report.rows)


SHOWN_FIGURES = {"p50_ms": "p50", "p90_ms": "p90", "p99_ms": "p99"}


def absent_figures(rows: Sequence[CellRow]) -> list[str]:
    """``no p99 in 3 of 4 measured rows, as in A on B: …`` for each percentile that some lack."""
    measured = [row for row in rows if row.trials_measured]
    lines = []
    for name, title in SHOWN_FIGURES.items():
        lacking = [row for row in measured if getattr(row, name).value is None]
        if lacking:
            row = lacking[0]
            lines.append(
                f"no {title} in {len(lacking)} of {len(measured)} measured rows; "
                f"{row.label} on {row.device}: {getattr(row, name).reason}"
            )
    return lines


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
    lines += ["", _md(baseline_line(report))]
    for group in report.groups:
        rows = report.rows_of(group)
        lines += ["", f"## {_md(group.model)}, {_md(group.workload)}", ""]
        lines += [_md(claims.whole_claim(report, group)), ""]
        shown = columns.shown("markdown", rows)
        lines.append(_line([column.heading("markdown") for column in shown]))
        lines.append(_line(["---"] * len(shown)))
        for row in rows:
            lines.append(_line([_md(str(c.text_of("markdown", row))) for c in shown]))
        if notes := [*footnotes(rows), *absent_figures(rows)]:
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
