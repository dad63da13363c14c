"""A report that was stored before, and what it looks like on every output, byte for byte.

``golden/report.json`` is a frozen report: it must go on to parse. The other files are its outputs;
``python tests/unit/report/test_report_golden.py`` writes them anew after a change that is meant.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.report.render import export, tables
from orchestrator.report.render.html import render_html
from orchestrator.report.schema import SweepReport

GOLDEN = Path(__file__).parent / "golden"


def stored() -> SweepReport:
    return SweepReport.model_validate_json((GOLDEN / "report.json").read_bytes())


def terminal(report: SweepReport) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(*tables.terminal_table(report), sep="\n")
    return console.export_text()


def page(report: SweepReport) -> str:
    """Without scripts and the nonce, which depend on the version of the charts' libraries."""
    text = re.sub(r"<script.*?</script>", "", render_html(report, {}), flags=re.DOTALL)
    return re.sub(r"'nonce-[0-9a-f]+'", "'nonce'", text)


OUTPUTS: dict[str, Callable[[SweepReport], str]] = {
    "report.json": export.to_json,
    "terminal.txt": terminal,
    "markdown.txt": tables.markdown,
    "cells.csv": export.to_csv,
    "page.html": page,
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_stored_report_looks_as_it_did(name: str) -> None:
    assert OUTPUTS[name](stored()) == (GOLDEN / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    for name, output in OUTPUTS.items():
        (GOLDEN / name).write_text(output(stored()), encoding="utf-8")
