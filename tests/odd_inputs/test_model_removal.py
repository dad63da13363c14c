"""Models that are removed, also while something uses them, and what stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.errors import Conflict, NotFound
from orchestrator.service.models import registration, removal
from orchestrator.service.sweeps import retention, sweeps
from support import onnx_files
from support.cli import Shell
from support.farms import FarmKit

SPEC = """
name: {name}
models: [{{name: removable}}]
runtimes: [{{backend: onnxruntime, precision: fp16}}]
trials: 1
scenario: {{min_duration_s: 0.02, max_duration_s: 0.1, warm_up_s: 0.02, min_samples: 12}}
"""


def test_a_model_goes_when_no_sweep_uses_it(farm_shell: Shell, tmp_path: Path) -> None:
    path = onnx_files.half(tmp_path / "removable.onnx")
    farm_shell.fine("model", "add", path)
    spec = tmp_path / "removable.yaml"
    spec.write_text(
        SPEC.format(name="uses-it").replace("onnxruntime}", "onnxruntime, precision: fp16}")
    )
    farm_shell.fine("sweep", "run", spec)
    refused = farm_shell.refused("model", "remove", "removable", "--yes")
    assert "model 'removable' is used by 1 sweep: uses-it (onnx)" in refused
    assert "benchfarm sweep delete uses-it" in refused
    assert "give --yes" in farm_shell.refused("model", "remove", "removable")
    farm_shell.fine("sweep", "delete", "uses-it", "--yes")
    removed = farm_shell.fine("model", "remove", "removable", "--yes")
    assert removed.startswith("removable: onnx removed, 2 blobs freed")
    assert "removable" not in farm_shell.fine("model", "list")
    assert "model_removed" in farm_shell.fine("events", "--subject", "removable")
    assert "there is no model 'removable'" in farm_shell.refused(
        "model", "remove", "removable", "--yes"
    )
    farm_shell.fine("model", "add", path)  # its name is free again
    farm_shell.fine("model", "remove", "removable", "--yes")
    farm_shell.fine("db", "check", "--deep")


def test_only_blobs_that_nothing_else_refers_to_go(sqlite_farm: FarmKit) -> None:
    farm = sqlite_farm
    farm.add_model("one")
    before = farm.blobs()
    farm.add_model("two")
    assert removal.remove(farm.farm, "two").freed_blobs == 0
    assert farm.blobs() == before
    assert [m.name for m in registration.models(farm.farm)] == ["one"]


def test_a_model_of_a_sweep_that_runs_or_ended_stays(farm: FarmKit) -> None:
    farm.device()
    farm.add_model()
    farm.submit("first")
    with pytest.raises(Conflict, match=r"used by 1 sweep: first \(onnx, it runs\)"):
        removal.remove(farm.farm, "dense")
    sweeps.cancel(farm.farm, "first")
    with pytest.raises(Conflict, match=r"used by 1 sweep: first \(onnx\)"):
        removal.remove(farm.farm, "dense", "onnx")
    retention.delete_sweep(farm.farm, "first")
    removal.remove(farm.farm, "dense")
    assert registration.models(farm.farm) == []


def test_the_file_that_gave_the_reference_goes_with_the_model_only(sqlite_farm: FarmKit) -> None:
    sqlite_farm.add_model()
    with pytest.raises(NotFound, match="no file of model dense in format 'tflite'; known: onnx"):
        removal.remove(sqlite_farm.farm, "dense", "tflite")
    with pytest.raises(Conflict, match="gave the reference"):
        removal.remove(sqlite_farm.farm, "dense", "onnx")
    with pytest.raises(NotFound, match="no model 'none'"):
        removal.remove(sqlite_farm.farm, "none")
