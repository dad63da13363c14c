"""``benchfarm report``: a sweep's report as tables or a file."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import PIPE_WIDTH, console, require_writable, write


class ReportFormat(StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


def report(
    context: typer.Context,
    sweep: str,
    output: ReportFormat = typer.Option(ReportFormat.TABLE, "-o", "--output", help="How to print."),
    file: Path | None = typer.Option(None, "--file", help="Write there instead of printing."),
    html: Path | None = typer.Option(None, "--html", help="Also write the HTML report there."),
) -> None:
    """Latency with confidence intervals, accuracy, memory, speed-up: every cell of a sweep."""
    require_writable(html)
    require_writable(file)
    with client(context) as farm:
        if html is not None:
            _write(html, farm.report_text(sweep, "html"))
        if output is not ReportFormat.TABLE:
            text = farm.report_text(sweep, output.value)
            if file is None:
                sys.stdout.write(text if text.endswith("\n") else text + "\n")
            else:
                _write(file, text)
            return
        from rich.console import Console

        from orchestrator.report.render.tables import terminal_table

        parts = terminal_table(farm.report(sweep))
    if file is None:
        console().print(*parts, sep="\n")
        return
    with file.open("w", encoding="utf-8") as out:
        Console(file=out, width=PIPE_WIDTH).print(*parts, sep="\n")


def _write(path: Path, text: str) -> None:
    write(path, text)
    typer.echo(f"wrote {path}", err=True)
