"""A cell's raw samples as a file: every format, names of cells, and what cannot be had."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from support.cli import Shell


@pytest.fixture(scope="module")
def rows(farm_shell: Shell, measured_sweep: str) -> dict[str, Any]:
    """The sweep's rows by status; of two that are ok, the last."""
    found = json.loads(farm_shell.fine("report", measured_sweep, "-o", "json"))["rows"]
    return {row["status"]: row for row in found}


def test_the_report_prints_the_number_that_samples_takes(
    farm_shell: Shell, measured_sweep: str, rows: dict[str, Any], tmp_path: Path
) -> None:
    row = rows["ok"]
    table = farm_shell.fine("report", measured_sweep)
    lines = [text for text in table.splitlines() if f"fp32 {row['threads']} thread" in text]
    assert any(row["cell_id"] in line.split() for line in lines)
    out = tmp_path / "cell.npy"
    said = farm_shell.fine("samples", row["cell_id"], "--out", out)
    assert f"{row['samples']:,} samples of 2 trials of cell {row['cell_id']}" in said


def test_the_formats_hold_the_same_samples(
    farm_shell: Shell, rows: dict[str, Any], tmp_path: Path
) -> None:
    row = rows["ok"]
    for suffix in ("npy", "csv", "json"):
        farm_shell.fine("samples", row["cell_id"], "--out", tmp_path / f"s.{suffix}")
    table = np.load(tmp_path / "s.npy", allow_pickle=False)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "s.csv").read_text())))
    trials = json.loads((tmp_path / "s.json").read_text())["trials"]
    assert len(table) == len(lines) == row["samples"]
    assert [int(line["caller_ns"]) for line in lines] == table["caller_ns"].tolist()
    assert [ns for t in trials for ns in t["caller_ns"]] == table["caller_ns"].tolist()
    assert [t["trial"] for t in trials] == [0, 1]
    assert {(t["attempt"], t["status"]) for t in trials} == {(1, "ok")}
    assert {line["runtime_ns"] for line in lines} == {""}, "onnxruntime reports none of its own"
    medians = [float(np.median(t["caller_ns"])) / 1e6 for t in trials]
    assert np.exp(np.mean(np.log(medians))) == pytest.approx(row["p50_ms"]["value"], abs=2e-6)
    assert not list(tmp_path.glob(".*")), "no half file is left"


def test_parquet_is_written_or_says_what_it_needs(
    farm_shell: Shell, rows: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "s.parquet"
    if importlib.util.find_spec("pyarrow") is None:
        message = farm_shell.refused("samples", rows["ok"]["cell_id"], "--out", out)
        assert "pip install 'benchfarm[parquet]'`, or choose .npy, .csv or .json" in message
        assert not out.exists()
        return
    import pyarrow.parquet

    farm_shell.fine("samples", rows["ok"]["cell_id"], "--out", out)
    table = pyarrow.parquet.read_table(out)
    assert table.num_rows == rows["ok"]["samples"]
    assert table["runtime_ns"].null_count == table.num_rows
    assert table["status"].to_pylist()[0] == "ok"


@pytest.mark.parametrize(
    ("cell", "out", "says"),
    [
        ("onnxruntime", "s.npy", "cell 'onnxruntime': a cell is a number, which the column"),
        ("999999", "s.npy", "there is no cell 999999; the column"),
        ("99999999999", "s.npy", "a cell is a number"),
        ("²", "s.npy", "a cell is a number"),
        ("{ok}", "s.xlsx", "the suffix says the format; accepted: .parquet, .npy, .csv, .json"),
        ("{ok}", "samples", "the suffix says the format"),
        ("{ok}", "nowhere/s.npy", "cannot be written"),
        ("{skipped}", "s.npy", "has no samples: it was skipped: "),
    ],
)
def test_what_cannot_be_had_is_one_message_and_no_file(
    farm_shell: Shell, rows: dict[str, Any], tmp_path: Path, cell: str, out: str, says: str
) -> None:
    ids = {status: row["cell_id"] for status, row in rows.items()}
    message = farm_shell.refused("samples", cell.format(**ids), "--out", tmp_path / out)
    assert says in message
    assert not list(tmp_path.iterdir())


def test_the_api_gives_them_to_a_viewer(farm_shell: Shell, rows: dict[str, Any]) -> None:
    known = json.loads((farm_shell.home / "client.json").read_text())
    cells = f"{known['url']}/api/v1/cells"
    url = f"{cells}/{rows['ok']['cell_id']}/samples"
    token = {"Authorization": f"Bearer {known['token']}"}
    found = httpx.get(url, headers=token).json()
    assert found["cell"] == int(rows["ok"]["cell_id"])
    assert httpx.get(url, headers=token, params={"format": "csv"}).text.startswith("cell,trial_id,")
    assert httpx.get(url, headers=token, params={"format": "xml"}).status_code == 422
    assert httpx.get(url).status_code in (401, 403)
    assert httpx.get(f"{cells}/0/samples", headers=token).status_code == 422
