"""Tables, files and the page: their content, and that names cannot inject markup."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console, Group

from orchestrator.report import claims, number_format
from orchestrator.report.build import build_report
from orchestrator.report.inputs import SweepData
from orchestrator.report.render import export, tables
from orchestrator.report.render.charts import cell_charts, group_charts
from orchestrator.report.render.html import html_report, render_html, script_json
from orchestrator.report.schema import Estimate, SweepReport
from orchestrator.report.statistics.chart_series import ECDF_POINTS, TIME_BLOCKS, chart_series
from support.report_samples import cell, failed_trials, farm, steady_trials, sweep, trial

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'|[a](http://e.x)"


@pytest.fixture(scope="module")
def data() -> SweepData:
    return farm()


@pytest.fixture(scope="module")
def report(data: SweepData) -> SweepReport:
    return build_report(data)


@pytest.fixture(scope="module")
def page(data: SweepData, report: SweepReport) -> str:
    return render_html(report, chart_series(data))


def shown(report: SweepReport, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(Group(*tables.terminal_table(report)))
    return console.export_text()


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of script elements apart."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("width", [100, 120, 140])
def test_terminal_tables_fit_and_explain(report: SweepReport, width: int) -> None:
    text = shown(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "6.496 ±0.08" in text
    assert "openvino int8" in text
    assert "failed" in text
    assert "SIGSEGV" in text
    assert "none shown" in text


def test_names_are_no_markup_in_the_terminal() -> None:
    made = build_report(sweep([cell(model="[red]x[/red]", backend="[bold]")]))
    assert "[red]x[/red]" in shown(made, 140)


def test_markdown_has_one_table_per_model_and_escapes(report: SweepReport) -> None:
    text = tables.markdown(report)
    assert text.count("| Device |") == 2
    assert "3.24×" in text
    evil = tables.markdown(build_report(sweep([cell(model=EVIL, device="a|b")], name=EVIL)))
    assert "<script" not in evil
    assert "a\\|b" in evil
    rows = [line for line in evil.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


def test_the_first_sentence_names_the_winner_its_speed_up_and_its_interval(
    report: SweepReport,
) -> None:
    text = claims.whole_claim(report, report.groups[0])
    assert text.startswith("resnet18: fastest is openvino int8 on nuc-12, p50 1.9")
    assert re.search(r"3\.\d+× \[3\.\d+, 3\.\d+\] against onnxruntime fp32 on nuc-12", text)
    nothing = build_report(sweep([cell(trials=failed_trials())]))
    assert claims.whole_claim(nothing, nothing.groups[0]) == (
        "resnet18: no configuration may be recommended: nothing was measured."
    )


def test_json_round_trip(report: SweepReport) -> None:
    assert SweepReport.model_validate_json(export.to_json(report)) == report


def test_csv_round_trip(report: SweepReport) -> None:
    lines = list(csv.DictReader(io.StringIO(export.to_csv(report))))
    assert list(lines[0]) == export.header()
    assert [line["cell_id"] for line in lines] == [row.cell_id for row in report.rows]
    for line, row in zip(lines, report.rows, strict=True):
        assert (float(line["p50_ms"]) if line["p50_ms"] else None) == row.p50_ms.value
        assert (float(line["p50_low_ms"]) if line["p50_low_ms"] else None) == row.p50_ms.low
        assert line["status"] == row.status
        assert (int(line["rank"]) if line["rank"] else None) == row.rank
    assert len(export.values(report.rows[0])) == len(export.header())


def test_csv_runs_no_formula() -> None:
    made = build_report(sweep([cell(model="=HYPERLINK(1)")]))
    assert next(csv.DictReader(io.StringIO(export.to_csv(made))))["model"] == "'=HYPERLINK(1)"


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Estimate(unit="ms"), "–"),
        (Estimate(unit="ms", value=3.21456), "3.21"),
        (Estimate(unit="ms", value=3.21456, decimals=1), "3.2"),
        (Estimate(unit="ms", value=3.2, low=3.08, high=3.32), "3.20 ±0.12"),
        (Estimate(unit="ms", value=3.2, low=3.1, high=5.0), "3.20 [3.10, 5.00]"),
        (Estimate(unit="ms", value=1234.5, low=1200.0, high=1269.0), "1,234 ±34"),
        (Estimate(unit="x", value=1.02, low=1.004, high=1.036), "1.020 ±0.016"),
        (Estimate(unit="ms", value=0.146, low=1e-9, high=3e9), "0.1 [0.0, 3,000,000,000.0]"),
        (Estimate(unit="ms", value=3.0, low=3.0, high=3.0, decimals=0), "3 ±0"),
    ],
)
def test_digits_of_a_figure_follow_its_interval_and_clock(figure: Estimate, text: str) -> None:
    assert number_format.compact(figure) == text


def test_series_are_bounded(data: SweepData) -> None:
    found = chart_series(data)
    assert "cell-800" not in found
    one = found["cell-005"]
    assert len(one.quantiles_ms) == ECDF_POINTS
    assert len(one.timeline) == 5 * TIME_BLOCKS
    assert all(b.low_ms <= b.median_ms <= b.high_ms for b in one.timeline)
    assert one.samples == 10_000


def test_charts_compile(data: SweepData, report: SweepReport) -> None:
    import vl_convert

    series = chart_series(data)
    made = group_charts(report, report.groups[0], series) + cell_charts(report.rows[0], series)
    assert [chart.title for chart in made] == [
        "Latency (p50)",
        "Throughput",
        "Quality against latency",
        "Distribution of latency",
        "Latency during each trial",
    ]
    for chart in made:
        assert vl_convert.vegalite_to_svg(json.dumps(chart.spec)).startswith("<svg")


def test_the_page_loads_nothing(page: str) -> None:
    elements = Elements(page)
    for tag, attributes in elements.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base")
        for name in ("src", "srcset", "data", "action", "poster", "background"):
            assert name not in attributes, (tag, attributes)
        target = attributes.get("href")
        assert target is None or target.startswith("#")
    outside_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", outside_scripts)
    assert "@import" not in page
    assert "url(" not in outside_scripts


def test_the_page_has_one_copy_of_the_libraries(page: str) -> None:
    assert page.count("window.vegaEmbed=") == 1
    assert page.count("</script>") == 3
    policy = re.search(r"Content-Security-Policy\" content=\"([^\"]+)", page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe-eval" not in policy[1]


def test_the_page_is_accessible_and_complete(page: str, report: SweepReport) -> None:
    tags = Elements(page).tags
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    assert sum(t == "caption" for t, _ in tags) == sum(t == "table" for t, _ in tags)
    assert all(a.get("aria-label") for _, a in tags if "data-chart" in a)
    identifiers = [a["id"] for _, a in tags if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    targets = {(a.get("href") or "#")[1:] for t, a in tags if t == "a"}
    assert targets <= set(identifiers)
    for wanted in ("prefers-color-scheme: dark", "@media print", "SIGSEGV", "edge-cpus", "p99 662"):
        assert wanted in page


def test_the_same_sweep_gives_the_same_page(
    data: SweepData, report: SweepReport, page: str
) -> None:
    assert render_html(report, chart_series(data)) == page


def test_names_cannot_break_out_of_the_page() -> None:
    fields: dict[str, Any] = dict.fromkeys(
        ("device", "device_class", "model", "backend", "version", "target", "precision"), EVIL
    )
    cells = [
        cell("a", steady_trials(3.0, placement=EVIL, telemetry={EVIL: 1.0}), **fields),
        cell("b", failed_trials(), **{**fields, "backend": EVIL + "2"}, options={EVIL: EVIL}),
        cell("c", [], skip_reason=EVIL, **fields),
    ]
    evil = html_report(sweep(cells, baseline={"backend": EVIL}, name=EVIL, spec_yaml=EVIL))
    assert "<script>alert" not in evil
    assert not {"img", "iframe"} & {tag for tag, _ in Elements(evil).tags}
    assert evil.count("</script>") == 3
    assert not any(name.startswith("on") for _, a in Elements(evil).tags for name in a)


def test_chart_data_cannot_end_its_element() -> None:
    text = script_json({"name": EVIL, "comment": "<!--"})
    assert "<" not in text
    assert json.loads(text)["name"] == EVIL


def test_an_empty_sweep_and_one_without_samples_have_a_page() -> None:
    assert "Summary" in html_report(sweep([]))
    lost = html_report(sweep([cell(trials=[trial(0, None)])]))
    assert "the samples are missing" in lost
    assert "<script" not in lost
