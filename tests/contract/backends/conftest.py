"""Each backend in turn, the small model in its format, and what runs its child."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import tensorflow_files
from support.backend_cases import CASES, Case
from support.runner_child import TFLITE, Bench, require, write_onnx, write_pt2


@pytest.fixture(scope="session", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    require(request.param)
    return CASES[request.param]


@pytest.fixture(scope="session")
def models(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small model: ``free`` batch and ``fixed`` at 1, in the backend's format."""
    folder = tmp_path_factory.mktemp(f"models-{case.backend}")
    if case.form == "pt2":
        free, fixed = write_pt2(folder)
        return {"free": free, "fixed": fixed}
    if case.form == "savedmodel":
        tensorflow_files.build(folder)
        return {name: folder / f"{name}.zip" for name in ("free", "fixed")}
    if case.form == "tflite":
        return {name: TFLITE / f"{name}.tflite" for name in ("free", "fixed")}
    return {
        "free": write_onnx(folder / "free.onnx", "N"),
        "fixed": write_onnx(folder / "fixed.onnx", 1),
    }


@pytest.fixture
def bench(case: Case, tmp_path: Path) -> Bench:
    return Bench(case.backend, tmp_path, case.python)
