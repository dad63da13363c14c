"""The table of columns: it agrees with the row, the outputs and the page of docs made from it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from rich.console import Console

from orchestrator.report import build, columns
from orchestrator.report.column import PLACES, Column, Shown, documentation
from orchestrator.report.number_format import compact, number, point_or_reason
from orchestrator.report.render import export, html, tables
from orchestrator.report.schema import CellRow, Estimate, SweepReport
from orchestrator.report.statistics import stats
from orchestrator.report.statistics.estimates import MeasuredTrial, absent, estimate
from support.report_samples import cell, failed_trials, steady_trials, sweep

ROOT = Path(__file__).parents[3]
POWER_W = 4.5


def energy_mj(trials: Sequence[MeasuredTrial]) -> Estimate:
    """Geometric mean over trials of energy per inference."""
    if not trials:
        return absent("mJ", "no measured trial")
    points = [POWER_W * t.seconds / t.inferences * 1000 for t in trials]
    return estimate(stats.geometric(points), "mJ")


def longest_run_s(trials: Sequence[MeasuredTrial]) -> float | None:
    """Longest timed loop."""
    return max((t.seconds for t in trials), default=None)


ENERGY = Column(
    "energy_mj", "Energy", "Energy of one inference.", energy_mj, unit="mJ", interval=True,
    terminal=Shown(compact), markdown=Shown(compact), html=Shown(macro="figure"),
    details=Shown(point_or_reason, when=columns.measured),
)  # fmt: skip
LONGEST = Column(
    "longest_run_s", "Longest run", "Longest timed loop.", longest_run_s, unit="s",
    terminal=Shown(number), markdown=Shown(number), html=Shown(number), details=Shown(number),
)  # fmt: skip


@pytest.fixture
def two_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, ENERGY, LONGEST))


def report() -> SweepReport:
    cells = [cell(trials=steady_trials(3.0)), cell("c2", failed_trials(), backend="tvm")]
    return build.build_report(sweep(cells))


def terminal(made: SweepReport) -> str:
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(*tables.terminal_table(made), sep="\n")
    return console.export_text()


@pytest.mark.usefixtures("two_more")
def test_a_row_of_the_table_and_an_estimator_make_a_column_everywhere() -> None:
    made = report()
    figure = made.rows[0].model_dump()["energy_mj"]
    assert figure["value"] == pytest.approx(4.5 * 3.03, rel=0.02)
    text = compact(Estimate(**figure))
    assert re.search(r"RSS MiB +Energy mJ +Longest run s +cell +Verdict", terminal(made))
    assert text in terminal(made)
    markdown = tables.markdown(made)
    assert (
        "| Load cold (ms) | Energy (mJ) | Longest run (s) | Trials | cell | Verdict |" in markdown
    )
    assert f"| {text} |" in markdown
    measured, failed = csv.DictReader(io.StringIO(export.to_csv(made)))
    assert measured["energy_mj"] == str(figure["value"])
    assert measured["energy_low_mj"] == str(figure["low"])
    assert measured["energy_high_mj"] == str(figure["high"])
    assert measured["energy_trials"] == "5"
    assert float(measured["longest_run_s"]) > 2
    assert failed["energy_mj"] == failed["longest_run_s"] == ""
    page = html.render_html(made, {})
    assert '<th scope="col">Energy<br>mJ</th><th scope="col">Longest run<br>s</th>' in page
    assert "<dt>Energy (mJ)</dt>" in page
    assert '<span title="no measured trial">–</span>' in page
    docs = documentation(columns.COLUMNS)
    names = "`energy_mj`, `energy_low_mj`, `energy_high_mj`, `energy_trials`"
    assert f"| {names} | mJ | Energy of one in" in docs
    assert "`energy_mj()`: Geometric mean over trials of energy per inference." in docs


@pytest.mark.usefixtures("two_more")
def test_additional_columns_are_stored_and_read_back() -> None:
    made = report()
    again = SweepReport.model_validate_json(export.to_json(made))
    assert again == made
    assert isinstance(columns.COLUMNS[-2].value(again.rows[0]), Estimate)


def test_a_report_stored_before_a_column_was_added_has_no_figure_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = SweepReport.model_validate_json(export.to_json(report()))
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, ENERGY, LONGEST))
    assert [ENERGY.text_of("terminal", row) for row in stored.rows] == ["–", "–"]
    assert "Energy<br>mJ" in html.render_html(stored, {})
    assert next(csv.DictReader(io.StringIO(export.to_csv(stored))))["energy_mj"] == ""


@pytest.mark.parametrize("wrong", [{"value": 1.0}, [1.0, 2.0], {"unit": "mJ", "hight": 1.0}])
def test_an_additional_column_holds_a_figure(wrong: object) -> None:
    with pytest.raises(ValidationError):
        CellRow.model_validate({**report().rows[0].model_dump(), "energy_mj": wrong})


def test_each_field_of_a_row_is_a_column_and_each_column_is_in_a_row() -> None:
    assert {c.field for c in columns.COLUMNS} == set(CellRow.model_fields)
    assert set(report().rows[0].model_extra or {}) == set()
    for column in columns.COLUMNS:
        annotation: Any = CellRow
        for name in (column.path or column.name).split("."):
            models = [t for t in (annotation, *get_args(annotation)) if hasattr(t, "model_fields")]
            annotation = models[0].model_fields[name].annotation
        assert column.interval == (annotation is Estimate), column.name


def test_units_are_those_of_the_estimates() -> None:
    row = report().rows[0]
    for column in columns.COLUMNS:
        if column.interval and column.name != "speed_up":
            assert column.value(row).unit == column.unit, column.name


def test_names_are_unique_and_orders_name_columns_that_are_shown() -> None:
    names = export.header()
    assert len(names) == len(set(names))
    for place in PLACES:
        shown = {c.name for c in columns.COLUMNS if c.shown(place)}
        assert set(columns.ORDER[place]) - {...} == shown


def test_each_macro_is_one_of_the_page() -> None:
    page = (Path(html.__file__).parent / "page.html").read_text(encoding="utf-8")
    for column in columns.COLUMNS:
        if column.html:
            assert f"macro {column.html.macro}(" in page or f'"{column.html.macro}":' in page


def test_every_model_but_the_row_refuses_unknown_keys() -> None:
    stored: dict[str, Any] = report().model_dump()
    assert issubclass(SweepReport, BaseModel)
    with pytest.raises(ValidationError):
        SweepReport.model_validate({**stored, "nmae": "x"})


def test_the_page_of_docs_is_made_from_the_table() -> None:
    text = (ROOT / "docs" / "report-columns.md").read_text(encoding="utf-8")
    assert text == documentation(columns.COLUMNS), (
        "write it anew: python -m orchestrator.report.columns > docs/report-columns.md"
    )
