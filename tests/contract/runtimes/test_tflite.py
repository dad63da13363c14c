"""TFLite's layouts, quantised values, operators and delegates, in both packages that have it.

The files are made by ``tests/fixtures/tflite/make.py``.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.trial import RuntimeRef, TensorSpec, TrialResult
from orchestrator.store.health_model import FEEDS, canary
from support.environments import ROOT, python_of
from support.runner_child import (
    BIAS,
    KERNEL,
    SPEC,
    TFLITE,
    Array,
    Bench,
    dataset_file,
    model_of,
    reference_file,
    require,
)
from support.runtime_contract import BackendCase, RuntimeContract

ENVIRONMENTS = {"tflite@litert": "ai_edge_litert", "tflite@tflite-runtime": "tflite_runtime"}
"""Each with the module that it has the interpreter in."""


def files(folder: Path) -> tuple[Path, Path]:
    """The small model of free batch, and of batch 1."""
    return TFLITE / "free.tflite", TFLITE / "fixed.tflite"


CONTRACT = RuntimeContract(
    backends=tuple(
        BackendCase(
            *("tflite", "tflite", module, ("xnnpack", "off"), files),
            own_names=True,
            environment=environment,
        )
        for environment, module in ENVIRONMENTS.items()
    )
)
NCHW = replace(SPEC, layout="NCHW")


@pytest.fixture(scope="session", params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> str:
    require(request.param)
    return str(request.param)


@pytest.fixture
def bench(environment: str, tmp_path: Path) -> Bench:
    return Bench("tflite", tmp_path, environment)


def trial(
    bench: Bench, file: str, spec: TensorSpec = NCHW, reference: Path | None = None, **more: Any
) -> TrialResult:
    path = TFLITE / f"{file}.tflite"
    expected = reference or reference_file(bench.folder / "reference.npz")
    runtime = RuntimeRef("tflite", threads=1, **more)
    return bench.trial(model_of(path, "tflite", (spec,)), runtime, path, expected)


def test_the_two_packages_are_told_apart() -> None:
    words = [require(name).targets[0].description for name in ENVIRONMENTS]
    assert [word.split()[0] for word in words] == ["ai-edge-litert", "tflite-runtime"]
    assert len({require(name).version for name in ENVIRONMENTS}) == 2


def test_an_nhwc_file_is_fed_what_its_nchw_model_takes(bench: Bench) -> None:
    found = trial(bench, "nhwc")
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4
    assert "x NCHW to NHWC" in found.placement


def test_an_output_image_comes_back_in_the_models_layout(bench: Bench, tmp_path: Path) -> None:
    x = np.random.RandomState(9).standard_normal((2, 1, 3, 6, 6)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], (3, 3), axis=(2, 3))
    y: Array = np.einsum("nchwij,ocij->nohw", windows, KERNEL) + BIAS[:, None, None]
    arrays: dict[str, Any] = {"input:x": x, "output:y": np.maximum(y, 0.0)[:, None]}
    np.savez(tmp_path / "r.npz", **arrays)
    found = trial(bench, "picture", reference=tmp_path / "r.npz")
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4
    assert "y NHWC to NCHW" in found.placement


def test_a_layout_that_nobody_tells_is_not_guessed(bench: Bench) -> None:
    found = trial(bench, "nhwc", SPEC)
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_shape")
    assert "[1, 6, 6, 3] (layout NHWC), asked for [1, 3, 6, 6] (layout unknown)" in (
        found.failure.message
    )


def test_a_data_set_goes_through_the_same_transposition(bench: Bench, tmp_path: Path) -> None:
    path = TFLITE / "nhwc.tflite"
    found = bench.trial(
        model_of(path, "tflite", (NCHW,)),
        RuntimeRef("tflite"),
        path,
        reference_file(tmp_path / "reference.npz"),
        dataset=dataset_file(tmp_path / "dataset.npz"),
        top1=1.0,
    )
    assert found.accuracy is not None
    assert found.accuracy.top1 == 1.0


@pytest.mark.parametrize(("file", "dtype"), [("int8", "int8"), ("uint8", "uint8")])
@pytest.mark.parametrize("xnnpack", ["on", "off"])
def test_quantised_inputs_and_outputs_are_compared_as_real_values(
    bench: Bench, file: str, dtype: str, xnnpack: str
) -> None:
    found = trial(bench, file, precision="int8", options={"xnnpack": xnnpack})
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert 0.0 < found.fidelity.max_abs < 0.3
    assert f"float32 stored as {dtype} (scale 0.03137" in found.placement
    assert f"y float32 stored as {dtype} (scale 0.04706" in found.placement


def test_half_precision_weights(bench: Bench) -> None:
    found = trial(bench, "fp16", precision="fp16")
    assert found.failure is None
    assert found.fidelity is not None
    assert 0.0 < found.fidelity.max_abs < 1e-2


@pytest.mark.parametrize(
    ("file", "precision", "has"),
    [("int8", "fp32", "int8"), ("nhwc", "int8", "fp32"), ("fp16", "fp32", "fp16")],
)
def test_a_file_is_not_filed_under_another_precision(
    bench: Bench, file: str, precision: str, has: str
) -> None:
    found = trial(bench, file, precision=precision)
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_precision")
    assert found.failure.message == f"this file does not run in {precision} here; it runs in {has}"


def test_a_quantised_file_needs_no_conversion_to_int8(bench: Bench) -> None:
    for file, precision in (("int8", "int8"), ("fp16", "fp16"), ("fixed", "fp32")):
        path = TFLITE / f"{file}.tflite"
        runtime = RuntimeRef("tflite", precision=precision)
        found = bench.convert(model_of(path, "tflite"), runtime, path)
        assert (found.status, found.artifact, found.steps) == ("ok", str(path), ())
    path = TFLITE / "int8.tflite"
    found = bench.convert(model_of(path, "tflite"), RuntimeRef("tflite"), path)
    assert (found.status, found.failure and found.failure.kind) == (
        "unsupported",
        "unsupported_format",
    )


@pytest.mark.parametrize(
    ("file", "operator", "word"),
    [("custom", "Frobnicate", "custom operator"), ("flex", "FlexErf", "select TF ops")],
)
def test_an_operator_that_is_missing_is_named(
    bench: Bench, file: str, operator: str, word: str
) -> None:
    found = trial(bench, file, TensorSpec("x", "float32", (1, 3)))
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_operator")
    assert f"operator {operator}: " in found.failure.message
    assert word in found.failure.message


def test_no_truncation_reaches_the_interpreter(bench: Bench, tmp_path: Path) -> None:
    """tflite-runtime checks nothing: it takes some cut files for models."""
    data = (TFLITE / "nhwc.tflite").read_bytes()
    for length in (4, 8, 200, len(data) - 40, len(data) - 1):
        path = tmp_path / "cut.tflite"
        path.write_bytes(data[:length])
        expected = reference_file(tmp_path / "reference.npz")
        found = bench.trial(model_of(path, "tflite"), RuntimeRef("tflite"), path, expected)
        assert found.failure is not None
        assert found.failure.kind == "bad_model", length


def test_several_inputs_are_told_by_their_names(bench: Bench, tmp_path: Path) -> None:
    a, b = np.array([[1, 2, 3]], np.float32), np.array([[10, 20, 30]], np.float32)
    arrays: dict[str, Any] = {
        "input:a": a[None],
        "input:b": b[None],
        "output:add": (a + b)[None],
        "output:sub": (a - b)[None],
    }
    np.savez(tmp_path / "r.npz", **arrays)
    path = TFLITE / "two.tflite"
    specs = tuple(TensorSpec(name, "float32", (1, 3)) for name in "ab")
    runtime = RuntimeRef("tflite")
    found = bench.trial(model_of(path, "tflite", specs), runtime, path, tmp_path / "r.npz")
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs == 0.0


@pytest.mark.parametrize(("top", "kind"), [(9, None), (2**40, "unsupported_shape")])
def test_integers_are_narrowed_where_they_fit(
    bench: Bench, tmp_path: Path, top: int, kind: str | None
) -> None:
    ids = np.array([[[0, 3, 7, top]]], np.int64)
    table = np.arange(30, dtype=np.float32).reshape(10, 3)
    arrays: dict[str, Any] = {"input:ids": ids, "output:y": table[np.minimum(ids, 9)]}
    np.savez(tmp_path / "r.npz", **arrays)
    spec = TensorSpec("ids", "int64", (1, 4))
    found = trial(bench, "lookup", spec, tmp_path / "r.npz")
    assert (found.failure and found.failure.kind) == kind
    if kind is None:
        assert found.fidelity is not None
        assert found.fidelity.max_abs == 0.0
        assert "ids int64 stored as int32" in found.placement


@pytest.mark.parametrize(
    "delegate", ["evil.so", "/tmp/libx_delegate.so", "/usr/../tmp/libdelegate.so"]
)
def test_only_an_administrators_delegate_may_be_named(bench: Bench, delegate: str) -> None:
    found = trial(bench, "nhwc", options={"delegate": delegate})
    assert found.failure is not None
    assert found.failure.kind == "bad_option"
    assert "below /usr or /opt" in found.failure.message


@pytest.mark.parametrize("delegate", ["libarmnn_delegate.so.29", "/opt/vx/lib/libvx_delegate.so"])
def test_a_delegate_that_is_not_there_is_missing(bench: Bench, delegate: str) -> None:
    found = trial(bench, "nhwc", options={"delegate": delegate})
    assert found.failure is not None
    assert found.failure.kind == "runtime_missing"
    assert delegate in found.failure.message


def test_reference_kernels_exclude_xnnpack(bench: Bench) -> None:
    found = trial(bench, "nhwc", options={"kernels": "reference"})
    assert found.failure is None
    assert "XNNPACK off, reference kernels, nothing delegated" in found.placement
    found = trial(bench, "nhwc", options={"kernels": "reference", "xnnpack": "on"})
    assert found.failure is not None
    assert found.failure.kind == "bad_option"


SESSION = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from agent.contract import failures
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry

folder = Path(sys.argv[2])
backend = registry.find_backend("tflite")
spec = TensorSpec("x", "float32", (1, 3, 6, 6))
session = backend.load(folder / "free.tflite", RuntimeRef("tflite"), [spec])
assert list(session.inputs) == [spec], session.inputs
found = []
for seed in (1, 2, 1):
    x = np.random.RandomState(seed).standard_normal(spec.shape).astype(np.float32)
    session.bind({"x": x})
    x[:] = 0.0
    session.infer()
    found.append(session.read()["y"])
assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])
for bad in ({"z": x}, {"x": x[:, :, :5]}, {"x": x.astype(np.float64)}):
    try:
        session.bind(bad)
    except failures.UnsupportedShape:
        continue
    raise AssertionError(bad)
session.close()
try:
    session.infer()
except RuntimeError as error:
    assert "closed" in str(error)
else:
    raise AssertionError("a closed session infers")
free = backend.load(folder / "free.tflite", RuntimeRef("tflite"))
assert free.inputs[0].shape == (-1, 3, 6, 6), free.inputs
for batch in (2, 3):
    free.bind({"x": np.ones((batch, 3, 6, 6), np.float32)})
    free.infer()
    assert free.read()["y"].shape == (batch, 5)
"""


def test_a_session_keeps_the_protocol(environment: str) -> None:
    command = [python_of(environment), "-c", SESSION, str(ROOT), str(TFLITE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_health_checks_model_gives_its_known_outputs(bench: Bench, tmp_path: Path) -> None:
    artifact, expected = tmp_path / "canary.tflite", tmp_path / "canary.npz"
    artifact.write_bytes(canary().files["tflite"])
    expected.write_bytes(canary().outputs)
    runtime = RuntimeRef("tflite", threads=1)
    found = bench.trial(canary().model("tflite"), runtime, artifact, expected)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.feeds == FEEDS
    assert found.fidelity.max_abs < 1e-4
