"""Programs and SavedModels whose outputs are no function of their inputs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.trial import ModelRef
from agent.runner import repeatability
from orchestrator.local.reference_runs import run_twice
from support import unlike_files
from support.environments import python_of
from support.need import need


def test_a_program_with_dropout_and_a_counter(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    unlike_files.write_program(_python("pytorch", "torch"), path)
    found = _referenced("pytorch", "pt2", path)
    assert (len(found.outputs), len(found.unrepeatable), len(found.stateful)) == (3, 1, 1)
    assert "dropout" in next(iter(found.unrepeatable.values()))
    assert "buffer count" in next(iter(found.stateful.values()))


def test_a_savedmodel_with_random_numbers_and_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "net.zip"
    unlike_files.write_savedmodel(_python("tensorflow", "tensorflow"), path)
    found = _referenced("tensorflow", "savedmodel", path)
    assert (list(found.unrepeatable), list(found.stateful)) == (["noise"], ["count"])
    marks = repeatability.marks(Path(found.path))
    expected = repeatability.Marks(frozenset(["noise"]), frozenset(["count"]))
    assert marks == expected


def _python(runtime: str, module: str) -> str:
    """The interpreter that has a runtime; the test is skipped where none has it."""
    python = python_of(runtime)
    has = subprocess.run([python, "-c", f"import {module}"], capture_output=True, timeout=300)
    need(runtime, has.returncode == 0, f"{python} cannot import {module}")
    return python


def _referenced(runtime: str, file_format: str, path: Path) -> Referenced:
    model = ModelRef("net", file_format, "0" * 64, 1, (), ())
    found = run_twice(python_of(runtime), ReferenceJob(model, str(path), str(path.parent)))
    assert found.failure is None
    return found
