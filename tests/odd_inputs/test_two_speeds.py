"""Trials of one cell at two speeds under a time limit: the slow ones have few samples and count.

A board's results come in as a board's do; the report is read over HTTP.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from orchestrator.client import Client
from orchestrator.report.schema import CellRow
from orchestrator.service.scheduling import scheduler
from support.farms import FarmKit, judged
from support.serving import serving

LIMIT_S = 2.2


@pytest.fixture
def client(sqlite_farm: FarmKit) -> Iterator[Client]:
    sqlite_farm.add_model()
    with serving(sqlite_farm) as served, Client(served.url, served.token("viewer")) as found:
        yield found


def measure(farm: FarmKit, name: str, medians_ms: Sequence[float]) -> None:
    """A sweep of one cell; each trial runs at its own speed until the time limit ends it."""
    board = farm.device_id("board") if farm.rows()["devices"] else farm.device()
    farm.submit(name, trials=len(medians_ms))
    farm.beat(board)
    for median_ms in medians_ms:
        samples = [int(median_ms * 1e6)] * int(LIMIT_S * 1000 / median_ms)
        made = judged(farm.ok(farm.last_rung(), samples))
        assert made.samples is not None
        capped = replace(made.samples, stopped_by="max_duration", wall_s=LIMIT_S)
        farm.give(board, replace(made, samples=capped))
        scheduler.tick(farm.farm)


def rows(client: Client, name: str) -> tuple[CellRow, dict[str, str]]:
    """The only row, as JSON and as CSV have it."""
    [row] = client.report(name).rows
    [line] = csv.DictReader(io.StringIO(client.report_text(name, "csv")))
    return row, line


@pytest.mark.parametrize(
    ("medians_ms", "absent"),
    [
        ([3.0, 3.0, 3.6], {"p99"}),
        ([3.0, 30.0], {"p99"}),
        ([3.0, 3.0, 3.0, 40.0], {"p90", "p99"}),
        ([80.0, 200.0], {"p90", "p99"}),
        ([80.0, 81.0, 250.0], {"p50", "p90", "p99"}),
        ([1.0, 1.1], set()),
        ([500.0], {"p50", "p90", "p99"}),
    ],
)
def test_a_percentile_covers_every_trial_or_is_absent(
    sqlite_farm: FarmKit, client: Client, medians_ms: list[float], absent: set[str]
) -> None:
    measure(sqlite_farm, "speeds", medians_ms)
    row, line = rows(client, "speeds")
    assert row.trials_measured == len(medians_ms)
    figures = {name: getattr(row, f"{name}_ms") for name in ("p50", "p90", "p99")}
    assert {name for name, figure in figures.items() if figure.value is None} == absent
    for name, figure in figures.items():
        assert line[f"{name}_trials"] == ("" if name in absent else str(len(medians_ms)))
        assert (f"; {name}_ms: " in f"; {line['absent']}") == (name in absent)
        if name in absent:
            slowest = medians_ms.index(max(medians_ms))
            assert f"trial {slowest} has {int(LIMIT_S * 1000 / max(medians_ms))}" in figure.reason
            assert figure.reason.endswith("; raise scenario.max_duration_s")
    shown = [figure.value for figure in figures.values() if figure.value is not None]
    assert shown == sorted(shown)
    geometric = 1.0
    for median_ms in medians_ms:
        geometric *= median_ms ** (1 / len(medians_ms))
    assert all(value == pytest.approx(geometric, rel=1e-5) for value in shown)
    assert (row.rank is None) == ("p50" in absent or len(medians_ms) == 1)


def test_one_trial_is_called_so_only_where_it_is_one(sqlite_farm: FarmKit, client: Client) -> None:
    measure(sqlite_farm, "single", [1.0])
    measure(sqlite_farm, "mixed", [1.0, 250.0])
    single, _ = rows(client, "single")
    mixed, _ = rows(client, "mixed")
    assert single.p50_ms.reason == "1 trial: no interval"
    assert single.p50_ms.value == pytest.approx(1.0)
    assert "1 trial" not in mixed.p50_ms.reason
    assert mixed.p50_ms.value is None
