"""What a report claims: against which baseline, by how many trials, and what is said against it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from support.cli import Shell

LINE = "baseline: threads 1, precision fp32 (onnxruntime "


def report(shell: Shell, name: str) -> Any:
    return json.loads(shell.fine("report", name, "-o", "json"))


def spec(folder: Path, runtimes: str, baseline: str, more: str = "") -> Path:
    path = folder / "spec.yaml"
    path.write_text(
        f"name: claims\nmodels: [reported]\nruntimes: {runtimes}\nbaseline: {baseline}\n"
        f"scenario: {{min_duration_s: 0, max_duration_s: 0.1, warm_up_s: 0}}\n{more}"
    )
    return path


def test_every_output_names_the_baseline_and_what_it_left_open(
    farm_shell: Shell, measured_sweep: str
) -> None:
    for form in ("table", "markdown", "html"):
        text = " ".join(farm_shell.fine("report", measured_sweep, "-o", form).split())
        assert LINE in text, form
    found = report(farm_shell, measured_sweep)
    assert found["baseline_line"].startswith(LINE)
    speed_ups = {row["threads"]: row["speed_up"] for row in found["rows"]}
    assert speed_ups[1]["verdict"] == "baseline"
    label = speed_ups[2]["baseline_label"]
    assert label.startswith("onnxruntime ")
    assert label.endswith(" fp32 1 thread on bench")


def test_a_claim_carries_what_speaks_against_it(farm_shell: Shell, measured_sweep: str) -> None:
    """The trials are too short for the precision target, so the claim is provisional everywhere."""
    found = report(farm_shell, measured_sweep)
    winner = found["groups"][0]["winner"]
    assert winner["caveats"], "0.2 s never reach the target, or the machine is busy"
    first = winner["caveats"][0].split(":")[0]
    rows = list(csv.DictReader(io.StringIO(farm_shell.fine("report", measured_sweep, "-o", "csv"))))
    [row] = [row for row in rows if row["cell_id"] == winner["cell_id"]]
    assert first in row["caveats"]
    for form in ("table", "markdown", "html"):
        text = farm_shell.fine("report", measured_sweep, "-o", form)
        assert "rovisional: " in text, form
        assert first in text, form


def test_the_csv_says_over_how_many_trials_a_figure_is(
    farm_shell: Shell, measured_sweep: str
) -> None:
    rows = list(csv.DictReader(io.StringIO(farm_shell.fine("report", measured_sweep, "-o", "csv"))))
    measured = [row for row in rows if row["status"] == "ok"]
    assert len(measured) == 2
    for row in measured:
        assert row["p50_trials"] == row["inferences_per_second_trials"] == "2"
        assert bool(row["p99_ms"]) == (row["p99_trials"] == "2") == ("p99_ms:" not in row["absent"])


@pytest.mark.parametrize(
    ("runtimes", "baseline", "says"),
    [
        (
            "[{backend: onnxruntime, threads: [1, 2]}]",
            "{backend: onnxruntime}",
            "each would be its own baseline; they differ in threads (1, 2): name threads too",
        ),
        (
            "[{backend: onnxruntime, options: {graph_optimization: [all, basic]}}, "
            "{backend: onnxruntime, threads: 2}]",
            "{threads: 0}",
            "2 cells match the baseline and differ in graph_optimization (all, basic): "
            "name graph_optimization in `baseline`",
        ),
        ("[{backend: onnxruntime}]", "{treads: 1}", "unknown key 'treads'; accepted: device, back"),
        ("[{backend: onnxruntime}]", "{version: '0.1'}", "no cell of this sweep has version: 0.1"),
        ("[{backend: onnxruntime}]", "{backend: tvm}", "no cell of this sweep has backend: tvm"),
    ],
)
def test_a_baseline_that_compares_nothing_is_refused_with_the_keys_that_would(
    farm_shell: Shell, measured_sweep: str, tmp_path: Path, runtimes: str, baseline: str, says: str
) -> None:
    path = spec(tmp_path, runtimes, baseline)
    if "0.1" in baseline:  # only the device knows its version: the plan says it
        assert "no cell of this model and workload on bench has version 0.1" in " ".join(
            farm_shell.fine("sweep", "plan", path).split()
        )
        return
    message = farm_shell.refused("sweep", "plan", path)
    assert says in message
    assert "spec.yaml:4" in message


def test_a_plan_names_cells_without_a_baseline_and_calls_its_time_an_estimate(
    farm_shell: Shell, measured_sweep: str, tmp_path: Path
) -> None:
    runtimes = "[{backend: onnxruntime, threads: [1, 2]}, {backend: onnxruntime}]"
    text = farm_shell.fine("sweep", "plan", spec(tmp_path, runtimes, "{threads: 1}"))
    assert "at most" not in text
    assert "The time is an estimate" in text


def test_one_trial_claims_nothing(farm_shell: Shell, measured_sweep: str, tmp_path: Path) -> None:
    path = spec(
        tmp_path, "[{backend: onnxruntime, threads: [1, 2]}]", "{threads: 1}", "trials: 1\n"
    )
    text = " ".join(farm_shell.fine("sweep", "run", path).split())
    assert "reported: no configuration may be recommended: 1 trial: no interval." in text
    assert "fastest" not in text
    rows = report(farm_shell, "claims")["rows"]
    assert {row["rank"] for row in rows} == {None}
    assert {row["rank_reason"] for row in rows} == {"1 trial: no interval"}
