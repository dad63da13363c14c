"""The main job as a user types it, and the report's numbers against the raw samples."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from support.cli import Shell, make_onnx, running

SPEC = """
name: first
models: [digits_cnn]
runtimes:
  - {backend: onnxruntime, precision: [fp32, int8], threads: 1}
  - {backend: openvino, precision: fp32, threads: 1}
trials: 3
scenario: {min_duration_s: 0.2, max_duration_s: 1.0}
baseline: {backend: onnxruntime, precision: fp32}
"""


@pytest.mark.parametrize("broker", ["embedded", "redis", "memory"])
def test_from_nothing_to_a_report(
    broker: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = {"BENCHFARM_BROKER_URL": "memory://"} if broker == "memory" else {}
    if broker == "redis":
        settings["BENCHFARM_BROKER_URL"] = request.getfixturevalue("redis_url")
    with running(tmp_path / "home", **settings) as shell:
        _sees_its_device(shell)
        shell.fine("zoo", "build", "digits_cnn")
        spec = tmp_path / "sweep.yaml"
        spec.write_text(SPEC)

        planned = json.loads(shell.fine("sweep", "plan", spec, "-o", "json"))[0]
        assert [c["skip"] for c in planned["cells"]] == ["", "", ""]
        assert planned["trials"] == 9

        said = shell.fine("sweep", "run", spec, "--html", tmp_path / "report.html")
        assert "9 of 9 trials ended; done" in said
        assert "digits_cnn" in said

        report = json.loads(shell.fine("report", "first", "-o", "json"))
        _agrees_with_raw_samples(report, shell.home)
        _says_what_an_engineer_asks(report)
        _other_forms_agree(shell, report, (tmp_path / "report.html").read_text("utf-8"))


def _sees_its_device(shell: Shell) -> None:
    device = json.loads(shell.fine("device", "list", "-o", "json", "-l", "name=bench"))[0]
    assert device["connection"] == "online"
    runtimes = {r["backend"]: r for r in device["runtimes"]}
    assert {"onnxruntime", "openvino", "pytorch"} <= set(runtimes)
    assert "int8" in runtimes["onnxruntime"]["targets"]["CPU"]
    assert json.loads(shell.fine("device", "list", "-o", "json", "-l", "class=nothing")) == []


def _agrees_with_raw_samples(report: dict[str, Any], home: Path) -> None:
    """Recompute medians and intervals with NumPy from the blobs, without benchfarm's own code."""
    from scipy import stats

    medians = _medians_ms(home)
    rows = report["rows"]
    assert len(rows) == 3
    for row in rows:
        trials = medians[int(row["cell_id"])]
        assert row["status"] == "ok", row
        assert len(trials) == len(row["trials"]) == 3
        logs = np.log(trials)
        half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / math.sqrt(3)
        expected = {
            "value": math.exp(logs.mean()),
            "low": math.exp(logs.mean() - half),
            "high": math.exp(logs.mean() + half),
        }
        for key, value in expected.items():
            assert row["p50_ms"][key] == pytest.approx(value, rel=2e-3), (row["label"], key)
    base, other = _row(report, "onnxruntime", "fp32"), _row(report, "openvino", "fp32")
    speed_up = other["speed_up"]["estimate"]["value"]
    assert speed_up == pytest.approx(base["p50_ms"]["value"] / other["p50_ms"]["value"], rel=0.01)


def _row(report: dict[str, Any], backend: str, precision: str) -> Any:
    wanted = (backend, precision)
    return next(r for r in report["rows"] if (r["backend"], r["precision"]) == wanted)


def _medians_ms(home: Path) -> dict[int, list[float]]:
    """Cell id → the median of each of its accepted trials, milliseconds."""
    found: dict[int, list[float]] = {}
    with sqlite3.connect(home / "benchfarm.sqlite3") as database:
        rows = database.execute(
            "select t.cell_id, a.result from attempts a join trials t on t.id = a.trial_id "
            "where a.accepted order by t.number"
        ).fetchall()
    database.close()
    for cell, text in rows:
        samples = json.loads(text)["samples"]
        sha256 = samples["sha256"]
        blob = (home / "blobs" / sha256[:2] / sha256).read_bytes()
        raw = zstandard.ZstdDecompressor().decompress(blob)
        values = np.frombuffer(raw, dtype="<i8").reshape(len(samples["series"]), -1)
        assert values.shape[1] == samples["count"] >= 100
        found.setdefault(cell, []).append(float(np.median(values[0])) / 1e6)
    return found


def _says_what_an_engineer_asks(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        assert row["top1"] > 0.98
        assert row["fidelity"]["passed"], row["fidelity"]
        assert row["peak_rss_mib"] > 20
        assert row["load_cold_ms"]["value"] > 0
        assert row["first_inference_ms"]["value"] > 0
        assert row["inferences_per_second"]["value"] > 0
        assert row["trust"]["verdict"]
    precise = _row(report, "onnxruntime", "fp32")
    quantised = _row(report, "onnxruntime", "int8")
    assert quantised["artifact_size_mib"] < precise["artifact_size_mib"]
    assert quantised["calibration"] == "dataset"


def _other_forms_agree(shell: Shell, report: dict[str, Any], html: str) -> None:
    csv = shell.fine("report", "first", "-o", "csv").splitlines()
    assert len(csv) == 1 + len(report["rows"])
    assert "p50_ms" in csv[0]
    markdown = shell.fine("report", "first", "-o", "markdown")
    assert "| --" in markdown or "|--" in markdown or "|:-" in markdown
    assert "openvino" in html
    assert "vega" in html.lower()
    assert not re.search(r"""<(?:script|link|img)[^>]+(?:src|href)\s*=\s*["']?https?:""", html)


def test_a_sweep_is_cancelled_and_resumed(shell: Shell, tmp_path: Path) -> None:
    spec = tmp_path / "long.yaml"
    spec.write_text(
        "name: long\nmodels: [digits_cnn]\nruntimes: [{backend: onnxruntime}]\ntrials: 2\n"
        "scenario: {min_duration_s: 3, max_duration_s: 4}\n"
    )
    shell.fine("sweep", "run", spec, "--detach")
    shell.fine("sweep", "cancel", "long")
    listed = {s["name"]: s for s in json.loads(shell.fine("sweep", "list", "-o", "json"))}
    assert listed["long"]["state"] == "cancelled"
    assert "2 of 2 trials ended; done" in shell.fine("sweep", "resume", "long")
    assert "exists" in shell.refused("sweep", "run", spec)


def test_an_operator_no_runtime_has_reads_unsupported(shell: Shell, tmp_path: Path) -> None:
    """OpenVINO lacks Det, onnxruntime has it: one cell is a result, the other a figure."""
    model = make_onnx(tmp_path / "odd.onnx", shape=[1, 8, 8], op="Det", gives=[1])
    shell.fine("model", "add", model)
    spec = tmp_path / "odd.yaml"
    spec.write_text(
        "name: odd\nmodels: [odd]\ntrials: 2\nruntimes: [{backend: onnxruntime}, "
        "{backend: openvino}]\nscenario: {min_duration_s: 0.1, max_duration_s: 0.5}\n"
    )
    shell.fine("sweep", "run", spec)
    rows = {r["backend"]: r for r in json.loads(shell.fine("report", "odd", "-o", "json"))["rows"]}
    assert rows["onnxruntime"]["status"] == "ok"
    assert rows["openvino"]["status"] == "unsupported"
    assert "Det" in rows["openvino"]["failure"]["message"]
