"""Output as table, JSON, YAML or CSV (``-o``), and helpers for printing."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

PIPE_WIDTH = 140


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


OUTPUT_OPTION = typer.Option(OutputFormat.TABLE, "-o", "--output", help="How to print.")
SELECTOR_OPTION = typer.Option(
    [], "-l", "--selector", help="Only what matches KEY=VALUE; repeatable."
)


def show(
    items: Sequence[BaseModel],
    rows: Sequence[Mapping[str, object]],
    output_format: OutputFormat,
    title: str = "",
) -> None:
    """Print all of ``items`` as JSON or YAML, or ``rows`` (column → value) as a table or CSV."""
    match output_format:
        case OutputFormat.JSON:
            sys.stdout.write(json.dumps(_plain(items), indent=2) + "\n")
        case OutputFormat.YAML:
            import yaml

            sys.stdout.write(yaml.safe_dump(_plain(items), sort_keys=False))
        case OutputFormat.CSV:
            if rows:
                writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        case OutputFormat.TABLE:
            _table(rows, title)


def _plain(items: Sequence[BaseModel]) -> list[Any]:
    return [item.model_dump(mode="json") for item in items]


def _table(rows: Sequence[Mapping[str, object]], title: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        console().print("none yet")
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    console().print(table)


def console(stderr: bool = False) -> Console:
    """A console of the terminal's width; for a pipe or file it is wide enough for the tables."""
    from rich.console import Console

    detected = Console(stderr=stderr)
    if detected.is_terminal:
        return detected
    return Console(stderr=stderr, width=max(detected.width, PIPE_WIDTH))


def confirm(question: str) -> None:
    """Ask on the terminal. Raises ``UserError`` unless the answer is yes."""
    from orchestrator.domain.errors import UserError

    if not sys.stdin.isatty():
        raise UserError(f"{question} nobody is there to say so: give --yes")
    if not typer.confirm(question):
        raise UserError("nothing was changed")


def require_writable(path: Path | None) -> None:
    """Check before long work that its result can be written. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
        raise UserError(f"{path} cannot be written: name a file in a folder that is there")


def write(path: Path, text: str) -> None:
    """Write a file. Raises ``UserError``."""
    from orchestrator.domain.errors import UserError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None


def size(count: int) -> str:
    """A number of bytes as text: ``13.4 MiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds as text: ``3 min 20 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
