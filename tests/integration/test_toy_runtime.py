"""A runtime is one folder and one test file: those of an example are dropped into a copy of the
sources, and everything else finds it there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.cli import running
from support.environments import ROOT
from support.need import REQUIRE
from support.runner_child import require, write_onnx

AGENT = Path(sys.executable).with_name("benchfarm-agent")
TOY = ROOT / "tests" / "fixtures" / "toy_runtime"
PARTS = ("agent", "inventory", "orchestrator", "playbooks", "tests")
FILES = {
    "agent/runtimes/toy/__init__.py",
    "agent/runtimes/toy/backend.py",
    "agent/runtimes/toy/converters/__init__.py",
    "agent/runtimes/toy/converters/toy_convert.py",
    "agent/runtimes/toy/manifest.py",
    "agent/runtimes/toy/requirements.lock",
    "tests/contract/runtimes/test_toy.py",
}
SWEEP = """
name: toy
models: [small]
runtimes:
  - {backend: toy, precision: [fp32, fp16], options: {convolution: matmul}}
  - {backend: onnxruntime, threads: 1}
trials: 2
scenario: {min_duration_s: 0.1, max_duration_s: 0.5}
baseline: {backend: onnxruntime}
"""
no_bytecode = shutil.ignore_patterns("__pycache__")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with the example in it; no file of theirs was there before."""
    folder = tmp_path_factory.mktemp("sources")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=no_bytecode)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in FILES:
        assert not (folder / name).exists()
    shutil.copytree(TOY, folder, ignore=no_bytecode, dirs_exist_ok=True)
    return folder


def environment(sources: Path) -> dict[str, str]:
    """This one with the copied sources first, requiring no runtime of the others."""
    outer = {name: value for name, value in os.environ.items() if name != REQUIRE}
    return {**outer, "PYTHONPATH": str(sources)}


def test_the_example_is_one_folder_and_one_test_file() -> None:
    found = {str(p.relative_to(TOY)) for p in TOY.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert found == FILES


@pytest.mark.parametrize("command", ["probe", "runtimes list"])
def test_the_agent_offers_it(sources: Path, tmp_path: Path, command: str) -> None:
    ended = subprocess.run(
        [str(AGENT), *command.split(), "-o", "json", "--state-dir", str(tmp_path)],
        env=environment(sources),
        capture_output=True,
        text=True,
        check=True,
    )
    found: Any = json.loads(ended.stdout)
    known = found["runtimes"] if command == "probe" else [listed["facts"] for listed in found]
    (toy,) = (facts for facts in known if facts["backend"] == "toy")
    assert toy["version"]
    assert set(toy["accepts"]) == {"toy", "onnx"}


@pytest.mark.timeout(900)
def test_the_common_suites_run_it_and_it_passes(sources: Path) -> None:
    tests = [
        "tests/contract",
        "tests/unit/test_locks.py",
        "-k",
        "toy or every_runtime or every_converter",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *tests, "-q", "-p", "no:cacheprovider"],
        cwd=sources,
        env=environment(sources),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:]
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) > 40


def test_a_sweep_over_it_ends_in_a_report(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("onnxruntime")
    monkeypatch.setenv("PYTHONPATH", str(sources))
    monkeypatch.chdir(sources)  # the local agent is a module, and those of the folder come first
    model, sweep = write_onnx(tmp_path / "small.onnx"), tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP)
    with running(tmp_path / "home") as shell:
        shell.fine("model", "add", model)
        way = shell.fine("model", "convert", model, "--to", "toy", "--explain")
        assert way.startswith("onnx (fp32) -> toy (fp32) by toy_convert in default")
        (planned,) = json.loads(shell.fine("sweep", "plan", sweep, "-o", "json"))
        assert [cell["skip"] for cell in planned["cells"]] == ["", "", ""]
        shell.fine("sweep", "run", sweep)
        report: dict[str, Any] = json.loads(shell.fine("report", "toy", "-o", "json"))
    rows = [row for row in report["rows"] if row["backend"] == "toy"]
    assert {row["precision"] for row in rows} == {"fp32", "fp16"}  # in the order of their ranks
    for row in rows:
        assert row["status"] == "ok"
        assert row["p50_ms"]["value"] > 0
        assert row["fidelity"]["passed"]
        assert row["placement"].endswith("convolution by matmul")
        assert "toy_convert" in row["conversion"]
