"""PyTorch's precisions, layouts, compile cache and converters, through the child under its
interpreter."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.trial import RuntimeRef, TensorSpec, TrialResult
from agent.formats.tflite import read
from support.environments import ROOT, python_of
from support.need import need
from support.runner_child import (
    SPEC,
    Bench,
    expected,
    model_of,
    reference_file,
    require,
    write_pt2,
)
from support.runtime_contract import BackendCase, ConverterCase, RuntimeContract

CONTRACT = RuntimeContract(
    backends=(
        BackendCase("pytorch", "pt2", "torch", ("mode", "eager"), write_pt2, own_names=True),
    ),
    converters=(
        ConverterCase(
            *("litert_torch", "tflite", "fp32", "tflite", frozenset({"model.tflite"})),
            source="pt2",
            tools="pytorch@litert",
        ),
        ConverterCase(
            *("litert_quantize", "tflite", "int8", "tflite", frozenset({"model.tflite"})),
            calibrated=True,
            source="pt2",
            tools="pytorch@litert",
        ),
        ConverterCase(
            *("torch_onnx", "onnxruntime", "fp32", "onnx", frozenset({"model.onnx"})),
            source="pt2",
            tools="pytorch",
            lacks="prims.lgamma",
        ),
    ),
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    require("pytorch")
    return write_pt2(tmp_path_factory.mktemp("pt2"))


@pytest.fixture
def program(programs: tuple[Path, Path]) -> Path:
    """The small model of free batch."""
    return programs[0]


@pytest.fixture
def fixed_program(programs: tuple[Path, Path]) -> Path:
    """The small model of batch 1."""
    return programs[1]


def trial(program: Path, folder: Path, precision: str = "fp32", **options: Any) -> TrialResult:
    runtime = RuntimeRef("pytorch", precision=precision, threads=1, options=options)
    reference = reference_file(folder / "reference.npz")
    return Bench("pytorch", folder).trial(model_of(program, "pt2"), runtime, program, reference)


def test_channels_last_gives_the_same_outputs(program: Path, tmp_path: Path) -> None:
    found = trial(program, tmp_path, memory_format="channels_last")
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4
    assert "channels_last" in found.placement


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_program_is_cast_where_the_processor_computes_so(
    program: Path, tmp_path: Path, precision: str
) -> None:
    found = trial(program, tmp_path, precision)
    if precision not in require("pytorch").targets[0].precisions:
        assert found.failure is not None
        assert (found.status, found.failure.kind) == ("unsupported", "unsupported_precision")
        return
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert found.fidelity.max_abs > 1e-5  # it really was cast
    assert precision in found.placement


def test_cuda_that_is_not_here_is_an_unsupported_target(program: Path, tmp_path: Path) -> None:
    if any(target.name == "CUDA:0" for target in require("pytorch").targets):
        pytest.skip("there is a CUDA device")
    runtime = RuntimeRef("pytorch", target="CUDA:0")
    reference = reference_file(tmp_path / "reference.npz")
    found = Bench("pytorch", tmp_path).trial(model_of(program, "pt2"), runtime, program, reference)
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_target")
    assert "it has CPU" in found.failure.message


@pytest.mark.timeout(600)
def test_what_was_compiled_is_kept_for_the_warm_load_only_when_asked(
    program: Path, tmp_path: Path
) -> None:
    for cache in ("off", "on"):
        folder = tmp_path / cache
        folder.mkdir()
        found = trial(program, folder, mode="compile", compile_cache=cache)
        failure = found.failure
        compiles = failure is None or failure.kind != "runtime_missing"
        need("pytorch", compiles, failure.message if failure else "")
        assert found.failure is None
        phases = found.phases
        assert phases.load_cold_s is not None
        assert phases.load_warm_s is not None
        # One folder, which the second load finds filled, or one for each load; none outside the
        # job's: a second trial is as cold as the first.
        folders = list(folder.glob("compile-cache-*"))
        assert len(folders) == (1 if cache == "on" else 2)
        assert all(any(path.is_file() for path in each.rglob("*")) for each in folders)


@pytest.mark.timeout(600)
def test_compiled_programs(program: Path, tmp_path: Path) -> None:
    found = trial(program, tmp_path, mode="compile")
    if found.failure is not None and found.failure.kind == "runtime_missing":
        assert "g++" in found.failure.message
        return
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert "compile" in found.placement


def test_a_pt2_that_would_run_code_is_refused(tmp_path: Path) -> None:
    require("pytorch")
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data/aotinductor/model/lib.so", b"\x7fELF")
    reference = reference_file(tmp_path / "reference.npz")
    found = Bench("pytorch", tmp_path).trial(
        model_of(path, "pt2"), RuntimeRef("pytorch"), path, reference
    )
    assert found.failure is not None
    assert found.failure.kind == "bad_model"
    assert "runs code when loaded" in found.failure.message


EXTERNAL = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from agent.runtimes import registry
from agent.runtimes.pytorch.converters import torch_onnx
from agent.runtimes.converter import Calibration

torch_onnx.EXTERNAL_BYTES = 0
folder = Path(sys.argv[3])
made = registry.find_converter("torch_onnx").convert(Path(sys.argv[2]), folder, Calibration([], ""))
assert sorted(p.name for p in folder.iterdir()) == ["model.onnx", "model.onnx.data"]
"""


def test_weights_that_no_protobuf_may_hold_lie_beside_it(
    fixed_program: Path, tmp_path: Path
) -> None:
    require("onnxruntime")
    command = [python_of("pytorch"), "-c", EXTERNAL, str(ROOT), str(fixed_program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    onnxruntime = pytest.importorskip("onnxruntime")
    x = np.ones(SPEC.shape, np.float32)
    (y,) = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).run(None, {"picture": x})
    np.testing.assert_allclose(y, expected(x), atol=1e-5)


def test_litert_torch_takes_pictures_channels_last_where_asked(
    fixed_program: Path, tmp_path: Path
) -> None:
    require("tflite")
    bench = Bench("tflite", tmp_path, tools="pytorch@litert")
    spec = TensorSpec("x", SPEC.dtype, SPEC.shape, "NCHW")
    model = model_of(fixed_program, "pt2", (spec,))
    runtime = RuntimeRef("tflite", options={"io_layout": "nhwc"})
    made = bench.convert(model, runtime, fixed_program)
    assert made.failure is None
    assert "inputs NHWC" in made.steps[0]
    found = read(Path(made.artifact))
    assert [found.tensors[n].shape for n in found.inputs] == [(1, 6, 6, 3)]
    reference = reference_file(tmp_path / "reference.npz")
    trial = bench.trial(
        model, RuntimeRef("tflite"), Path(made.artifact), reference, form=made.format
    )
    assert trial.failure is None
    assert trial.fidelity is not None
    assert trial.fidelity.max_abs < 1e-4
