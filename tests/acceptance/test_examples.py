"""Every file of ``examples/`` runs as its README says, with few and short trials."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.provisioning.fleet_file import load
from orchestrator.report.build import build_report
from support import report_samples as made
from support.cli import Shell

EXAMPLES = Path(__file__).parents[2] / "examples"
SWEEPS = (
    "compare-runtimes", "precision-accuracy", "thread-scaling", "throughput", "compare-devices",
)  # fmt: skip
SHORT = {
    "min_duration_s": 0.0, "max_duration_s": 60.0, "warm_up_s": 0.0, "min_samples": 20,
    "target_relative_ci": 0.99,
}  # fmt: skip
"""A trial ends when it has its samples, however busy the machine is."""


def shortened(name: str, folder: Path, trials: int = 1) -> Path:
    """The sweep of an example with short trials, on the smallest model."""
    spec = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    spec |= {"trials": trials, "scenario": {**spec.get("scenario", {}), **SHORT}}
    if "models" in spec:
        spec["models"] = ["digits_cnn"]
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_is_planned_as_it_stands_and_runs(shell: Shell, tmp_path: Path, name: str) -> None:
    file = EXAMPLES / f"{name}.yaml"
    models = yaml.safe_load(file.read_text(encoding="utf-8"))["models"]
    if models == ["digits_cnn"]:
        plan = json.loads(shell.fine("sweep", "plan", file, "-o", "json"))[0]
        assert plan["trials"] >= 5, plan
    shell.fine("sweep", "run", shortened(name, tmp_path))
    rows = json.loads(shell.fine("report", name, "-o", "json"))["rows"]
    states = {row["status"] for row in rows}
    assert states <= {"ok", "skipped"}, rows
    assert sum(row["status"] == "ok" for row in rows) >= 2


def test_the_notebook_reads_a_report(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    shell.fine("sweep", "run", shortened("compare-runtimes", tmp_path, 2), "--name", "notebook")
    monkeypatch.setenv("BENCHFARM_HOME", str(shell.home))
    monkeypatch.setenv("SWEEP", "notebook")
    names: dict[str, Any] = {}
    for code in code_cells("report.ipynb"):
        exec(compile(code, "report.ipynb", "exec"), names)
    assert len(names["table"]) == 2
    assert names["chart"].to_dict()["layer"]
    assert "digits_cnn fastest: " in capsys.readouterr().out


def code_cells(name: str) -> list[str]:
    """The source of a notebook's code cells; they hold no outputs."""
    cells = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in codes] == [[]] * len(codes)
    return ["".join(cell["source"]) for cell in codes]


def gate(shell: Shell, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``examples/ci_gate.py`` against the shell's controller."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "ci_gate.py"), *map(str, words)],
        env=shell.environment,
        cwd=shell.home,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_gate_passes_the_same_network_and_stops_a_slow_one(
    shell: Shell, tmp_path: Path
) -> None:
    sweep = shortened("ci-gate", tmp_path, 3)
    shell.fine("zoo", "build", "digits_cnn", "--output", tmp_path)
    against = ("--released", "digits_cnn", "--sweep", sweep, "--allow", "1")  # twice as slow
    same = gate(shell, tmp_path / "digits_cnn.onnx", *against)
    assert same.returncode == 0, same.stdout + same.stderr
    assert "0 of 1 cells regressed" in same.stdout

    slow = gate(shell, slow_network(tmp_path), *against)
    assert slow.returncode == 1, slow.stdout + slow.stderr
    assert "FAIL onnxruntime fp32 on bench: p50 " in slow.stdout
    assert "1 of 1 cells regressed" in slow.stdout

    wrong = gate(shell, tmp_path / "none.onnx", "--released", "digits_cnn")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "there is no such file" in wrong.stderr


def slow_network(folder: Path) -> Path:
    """Matrix products that take a hundred times longer than ``digits_cnn``."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    weights = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32) / 23
    nodes = [helper.make_node("MatMul", [f"x{n}", "w"], [f"x{n + 1}"]) for n in range(4)]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [128, 512])],
        [helper.make_tensor_value_info("x4", TensorProto.FLOAT, [128, 512])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = folder / "slow.onnx"
    save(model, str(file))
    return file


@pytest.mark.parametrize(
    ("new", "failed"),
    [
        (made.cell("new", made.steady_trials(3.0), model="new"), False),
        (made.cell("new", made.steady_trials(3.06), model="new"), False),
        (made.cell("new", made.steady_trials(4.0), model="new"), True),
        (made.cell("new", made.steady_trials(1.0, fidelity=made.BAD), model="new"), True),
        (made.cell("new", made.steady_trials(1.0, count=1), model="new"), True),
        (made.cell("new", made.steady_trials(1.0), model="new", threads=2), True),
    ],
    ids=["same", "within-noise", "slower", "wrong-outputs", "no-interval", "other-cell"],
)
def test_the_gate_judges_by_intervals(new: Any, failed: bool) -> None:
    from examples.ci_gate import compare

    old = made.cell("old", made.steady_trials(3.0, seed=1), model="old")
    report = build_report(made.sweep([old, new]))
    assert [line.failed for line in compare(report, "old", "new", 0.05)] == [failed]


def test_the_fleet_file_is_accepted() -> None:
    assert len(load(EXAMPLES / "farm.yaml").boards) >= 17


def test_every_example_is_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {file.name for file in EXAMPLES.iterdir() if file.is_file()} - {"README.md"}
    assert {name for name in files if f"]({name})" not in text} == set()
    assert {f"{name}.yaml" for name in (*SWEEPS, "versions", "ci-gate", "farm")} == {
        name for name in files if name.endswith(".yaml")
    }
