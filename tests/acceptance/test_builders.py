"""A board without quantisers gets its int8 models from the controller's machine."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.bare import interpreter_without
from support.cli import Shell, running
from support.need import need

SPEC = """
name: NAME
models: [digits_cnn]
devices: {names: [board]}
runtimes:
  - {backend: openvino, precision: [fp32, int8], threads: 1}
  - {backend: onnxruntime, precision: int8, threads: [1, 2]}
trials: 2
scenario: {min_duration_s: 0.1, max_duration_s: 0.5}
"""
START_LIMIT_S = 120.0


@contextmanager
def joined(shell: Shell, python: Path, state: Path) -> Iterator[None]:
    """Run a second agent, ``board``, under its own interpreter."""
    said = shell.fine("device", "join-token", "board")
    found = re.search(r"benchfarm-agent join (\S+) (\S+) --name board", said)
    assert found, said
    agent = [str(python), "-m", "agent.cli"]
    environment = {**shell.environment, "BENCHFARM_AGENT_HOME": str(state)}
    words = ["join", found[1], found[2], "--name", "board"]
    subprocess.run([*agent, *words], check=True, timeout=120, env=environment)
    with (state / "agent.log").open("wb") as log:
        process = subprocess.Popen([*agent, "run"], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not _device(shell, "board")["runtimes"]:
            assert process.poll() is None, (state / "agent.log").read_text()
            assert time.monotonic() < deadline, (state / "agent.log").read_text()
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _device(shell: Shell, name: str) -> Any:
    return json.loads(shell.fine("device", "list", "-o", "json", "-l", f"name={name}"))[0]


def _sweep(shell: Shell, name: str) -> Any:
    listed = json.loads(shell.fine("sweep", "list", "-o", "json"))
    return next(s for s in listed if s["name"] == name)


def _spec(tmp_path: Path, name: str) -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(SPEC.replace("NAME", name))
    return path


@pytest.fixture
def python(tmp_path: Path) -> Path:
    has = importlib.util.find_spec("nncf") is not None
    need("openvino", has, "nncf makes on the builder what the board cannot")
    return interpreter_without(tmp_path / "bare", "nncf", "onnx")


def test_a_board_without_quantisers_runs_what_a_builder_made(tmp_path: Path, python: Path) -> None:
    with running(tmp_path / "home") as shell:
        shell.fine("zoo", "build", "digits_cnn")
        state = tmp_path / "board"
        state.mkdir()
        with joined(shell, python, state):
            assert _device(shell, "bench")["tags"] == {"builder": "yes"}
            _without_a_builder_it_says_what_is_missing(shell, tmp_path)
            planned = json.loads(shell.fine("sweep", "plan", _spec(tmp_path, "a"), "-o", "json"))
            assert [c["built"] for c in planned[0]["cells"]] == [
                "",
                "bench: onnx → openvino_ir in int8",
                "bench: onnx → onnx in int8",
                "bench: onnx → onnx in int8",
            ]
            said = shell.fine("sweep", "run", _spec(tmp_path, "a"))
            assert "2 artifacts are built on other devices first" in said
            assert "8 of 8 trials ended; done" in said
            assert _sweep(shell, "a")["builds"] == {"done": 2}
            _is_a_sound_report(json.loads(shell.fine("report", "a", "-o", "json")))

            shell.fine("sweep", "run", _spec(tmp_path, "again"))
            assert _sweep(shell, "again")["builds"] == {}, "what was built is there"
            _is_a_sound_report(json.loads(shell.fine("report", "again", "-o", "json")))


def _without_a_builder_it_says_what_is_missing(shell: Shell, tmp_path: Path) -> None:
    assert "expected yes or no" in shell.refused("device", "tag", "bench", "builder=maybe")
    shell.fine("device", "tag", "bench", "builder=no")
    planned = json.loads(shell.fine("sweep", "plan", _spec(tmp_path, "a"), "-o", "json"))[0]
    skips = [cell["skip"] for cell in planned["cells"]]
    assert skips[0] == ""
    assert "board lacks a tool: nncf_quantize needs nncf" in skips[1]
    assert "onnxruntime_quantize needs onnx" in skips[2]
    assert "no other device is tagged as a builder" in skips[1]
    assert "builder=yes" in shell.fine("device", "tag", "bench", "builder=yes")


def _is_a_sound_report(report: dict[str, Any]) -> None:
    rows = report["rows"]
    assert [row["device"] for row in rows] == ["board"] * 4, "builds are no measurements"
    for row in rows:
        assert row["status"] == "ok", row
        assert row["fidelity"]["passed"]
        assert row["top1"] > 0.95
        made = row["conversion"]
        if row["precision"] == "fp32":
            assert "builder" not in made
            continue
        tool = "nncf_quantize" if row["backend"] == "openvino" else "onnxruntime_quantize"
        assert made.startswith(tool), made
        assert "checked by" in made
        assert made.endswith(", on builder bench"), made
        assert 0 < row["artifact_size_mib"] < row["source_size_mib"] * 2
    assert {row["artifact_format"] for row in rows} == {"onnx", "openvino_ir"}
