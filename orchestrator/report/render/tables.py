"""The report as terminal tables and as Markdown; both read a ``SweepReport`` only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.report import number_format
from orchestrator.report.schema import CellRow, ModelGroup, SweepReport

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

CAPTION = "95 % confidence intervals over fresh-process trials; = marks a tie; * is explained below"


def headline(report: SweepReport, group: ModelGroup) -> str:
    """One sentence: what is the fastest trustworthy answer for this model, and how sure that is."""
    if group.winner is None:
        return f"{group.model}: no configuration may be recommended."
    row = report.row(group.winner.cell_id)
    text = f"{group.model}: fastest is {row.label} on {row.device}, "
    text += f"p50 {number_format.point(row.p50_ms)}"
    text += f" ms {number_format.interval(row.p50_ms)}".rstrip()
    if row.speed_up is not None and row.speed_up.verdict in ("faster", "slower"):
        text += f", {number_format.speed_up(row.speed_up)} against {row.speed_up.baseline_label}"
    if group.winner.tied_with:
        tied = [report.row(cell_id) for cell_id in group.winner.tied_with]
        text += "; not shown to differ from " + ", ".join(f"{r.label} on {r.device}" for r in tied)
    return text + "."


def terminal_table(report: SweepReport) -> list[RenderableType]:
    """One table per model and workload with its headline and footnotes, for 100 to 140 columns."""
    from rich.text import Text

    made: list[RenderableType] = []
    for group in report.groups:
        rows = report.rows_of(group)
        made += [Text(headline(report, group), style="bold"), _table(group, rows)]
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
    accuracy = any(row.top1 is not None for row in rows)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("Configuration", overflow="fold", min_width=16)
    for name in ("p50 ms", "p99 ms", "inf/s", "Speed-up"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Top-1" if accuracy else "Cosine", justify="right", no_wrap=True)
    table.add_column("RSS MiB", justify="right", no_wrap=True)
    table.add_column("Verdict", overflow="fold", min_width=15)
    numbers, device = _numbered(rows), ""
    for row in rows:
        if row.device != device:
            device = row.device
            table.add_section()
            table.add_row("", Text(device, style="bold cyan"))
        mark = f" *{numbers[row.cell_id]}" if row.cell_id in numbers else ""
        cells = [number_format.rank(row), row.label, *_figures(row, accuracy), verdict(row) + mark]
        table.add_row(*(Text(text) for text in cells), style=_style(row))
    return table


def _figures(row: CellRow, accuracy: bool) -> list[str]:
    quality = number_format.percent(row.top1) if accuracy else number_format.cosine(_cosine(row))
    return [
        number_format.compact(row.p50_ms),
        number_format.point(row.p99_ms),
        number_format.number(row.inferences_per_second.value),
        _short_speed_up(row),
        quality,
        number_format.number(row.peak_rss_mib),
    ]


def _short_speed_up(row: CellRow) -> str:
    found = row.speed_up
    if found is None or found.verdict in ("baseline", "no_difference_shown", "no_interval"):
        return number_format.speed_up(found).replace("no difference shown", "none shown")
    return number_format.compact(found.estimate).replace(" ", "× ", 1)


def _cosine(row: CellRow) -> float | None:
    return row.fidelity.cosine if row.fidelity else None


def _style(row: CellRow) -> str:
    if row.rank is None:
        return "dim"
    return "bold green" if row.rank == 1 else ""


def verdict(row: CellRow) -> str:
    """The status where it is not ok, else the trust verdict."""
    return (
        number_format.status(row.status)
        if row.status != "ok"
        else number_format.spoken(row.trust.verdict)
    )


def reasons(row: CellRow) -> list[str]:
    """Everything that a reader must know about a row before trusting it, one sentence each."""
    found = [row.status_note] if row.status_note else []
    if row.failure is not None:
        kind = ", ".join(filter(None, (row.failure.kind, row.failure.fault)))
        found.append(f"{row.failure.stage}: {row.failure.message} ({kind})")
    if row.rank_reason and row.status == "ok":
        found.append(f"not ranked: {row.rank_reason}")
    return [*found, *(row.trust.reasons if row.trials_measured else ())]


def _numbered(rows: Sequence[CellRow]) -> dict[str, int]:
    noted = [row.cell_id for row in rows if reasons(row)]
    return {cell_id: number for number, cell_id in enumerate(noted, start=1)}


def footnotes(rows: Sequence[CellRow]) -> list[str]:
    """``*1 tensorrt int8 on board-a: load: …`` for every row that needs one."""
    numbers = _numbered(rows)
    return [
        f"*{numbers[row.cell_id]} {row.label} on {row.device}: {'; '.join(reasons(row))}"
        for row in rows
        if row.cell_id in numbers
    ]


MARKDOWN_COLUMNS = (
    "Device", "#", "Configuration", "p50 (ms)", "p90 (ms)", "p99 (ms)", "Inferences/s", "Speed-up",
    "Top-1", "Cosine", "Peak RSS (MiB)", "Load cold (ms)", "Trials", "Verdict",
)  # fmt: skip


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
        lines += [_md(headline(report, group)), ""]
        lines += [_line(MARKDOWN_COLUMNS), _line(["---"] * len(MARKDOWN_COLUMNS))]
        lines += [_line([_md(text) for text in _markdown_cells(row)]) for row in rows]
        if notes := footnotes(rows):
            lines += ["", *(f"- {_md(note)}" for note in notes)]
    lines += ["", f"{CAPTION}."]
    lines += [f"\n> {_md(note)}" for note in report.notes]
    return "\n".join(lines) + "\n"


def _markdown_cells(row: CellRow) -> list[str]:
    def with_interval(name: str) -> str:
        figure = getattr(row, name)
        return f"{number_format.point(figure)} {number_format.interval(figure)}".strip()

    return [
        row.device,
        number_format.rank(row),
        row.label,
        *(with_interval(n) for n in ("p50_ms", "p90_ms", "p99_ms", "inferences_per_second")),
        number_format.speed_up(row.speed_up),
        number_format.percent(row.top1),
        number_format.cosine(_cosine(row)),
        number_format.number(row.peak_rss_mib),
        number_format.point(row.load_cold_ms),
        f"{row.trials_measured}/{row.trials_planned}",
        verdict(row),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    """Names come from users: no table breaks, no HTML, no emphasis or links."""
    escaped = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
    for mark in ("\\", "|", "`", "*", "_", "[", "]"):
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
