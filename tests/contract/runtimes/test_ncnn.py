"""ncnn, which loads only what its converter makes: converted and measured by real children."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.contract.child_jobs import Converted
from agent.contract.trial import RuntimeRef, TensorSpec, TrialResult
from support.environments import ROOT, python_of
from support.runner_child import (
    BIAS,
    KERNEL,
    QUICK,
    SPEC,
    Bench,
    dataset_file,
    model_of,
    reference_file,
    require,
    write_onnx,
    write_two,
    write_unknown_operator,
)
from support.runtime_contract import ConverterCase, RuntimeContract

CONTRACT = RuntimeContract(
    converters=(
        ConverterCase(
            *("ncnn_pnnx", "ncnn", "fp16", "ncnn"),
            files=frozenset({"model.param", "model.bin", "notes.json"}),
        ),
    )
)


@pytest.fixture(autouse=True)
def _there() -> None:
    require("ncnn")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "job").mkdir()
    return Bench("ncnn", tmp_path / "job")


def convert(
    bench: Bench, source: Path, specs: tuple[TensorSpec, ...] = (SPEC,), **more: Any
) -> Converted:
    return bench.convert(model_of(source, "onnx", specs), RuntimeRef("ncnn", **more), source)


def made(bench: Bench, source: Path, specs: tuple[TensorSpec, ...] = (SPEC,)) -> Path:
    found = convert(bench, source, specs)
    assert found.failure is None
    return Path(found.artifact)


def trial(
    bench: Bench, artifact: Path, specs: tuple[TensorSpec, ...] = (SPEC,), **more: Any
) -> TrialResult:
    reference = bench.folder / "reference.npz"
    if not reference.exists():
        reference_file(reference)
    runtime = RuntimeRef("ncnn", **{"threads": 1, **more.pop("runtime", {})})
    model = model_of(artifact, "onnx", specs)
    return bench.trial(model, runtime, artifact, reference, form="ncnn", **more)


def write(path: Path, node: Any, inputs: list[Any], outputs: list[Any], **weights: Any) -> Path:
    initializers = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph([node], "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def value(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def test_probe_tells_what_it_can_run() -> None:
    facts = require("ncnn")
    assert facts.version
    target = next(t for t in facts.targets if t.name == "CPU")
    assert target.precisions == ("fp32", "fp16")


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_model_is_converted_measured_and_verified(
    bench: Bench, tmp_path: Path, batch: int | str
) -> None:
    artifact = made(bench, write_onnx(tmp_path / "m.onnx", batch))
    assert {p.name for p in artifact.parent.iterdir()} == {"model.param", "model.bin", "notes.json"}
    dataset = dataset_file(tmp_path / "dataset.npz")
    found = trial(bench, artifact, dataset=dataset, top1=1.0)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4
    assert found.accuracy is not None
    assert found.accuracy.top1 == 1.0
    assert found.placement == "CPU, 1 threads, fp32"


def test_a_free_batch_stays_free_and_a_fixed_one_is_a_result(bench: Bench, tmp_path: Path) -> None:
    batches = replace(QUICK, batch_size=4)
    free = made(bench, write_onnx(tmp_path / "free.onnx", "N"))
    found = trial(bench, free, scenario=batches)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4
    fixed = made(bench, write_onnx(tmp_path / "fixed.onnx", 1))
    found = trial(bench, fixed, scenario=batches)
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_shape")
    assert "[1, 3, 6, 6], asked for [4, 3, 6, 6]" in found.failure.message


def test_half_precision_halves_the_weights(bench: Bench, tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    whole = made(bench, source).with_name("model.bin").stat().st_size
    found = convert(bench, source, precision="fp16")
    assert found.failure is None
    assert Path(found.artifact).with_name("model.bin").stat().st_size < 0.8 * whole
    measured = trial(bench, Path(found.artifact), runtime={"precision": "fp16"})
    assert measured.failure is None
    assert measured.fidelity is not None
    assert 0.0 < measured.fidelity.max_abs < 1e-2


def test_an_output_picture_keeps_its_axes(bench: Bench, tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "kernel", "bias"], ["y"])
    inputs, outputs = [value("x", [1, 3, 6, 6])], [value("y", [1, 4, 4, 4])]
    source = write(tmp_path / "m.onnx", node, inputs, outputs, kernel=KERNEL, bias=BIAS)
    x = np.random.RandomState(9).standard_normal((2, 1, 3, 6, 6)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], (3, 3), axis=(2, 3))
    y: Any = np.einsum("nchwij,ocij->nohw", windows, KERNEL) + BIAS[:, None, None]
    arrays: dict[str, Any] = {"input:x": x, "output:y": y[:, None].astype(np.float32)}
    np.savez(bench.folder / "reference.npz", **arrays)
    found = trial(bench, made(bench, source))
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs < 1e-4


def test_several_inputs_and_outputs_keep_their_names(bench: Bench, tmp_path: Path) -> None:
    specs = tuple(TensorSpec(name, "float32", (1, 3)) for name in "ab")
    a, b = np.array([[1, 2, 3]], np.float32), np.array([[10, 20, 30]], np.float32)
    values = {"input:b": b, "input:a": a, "output:sub": a - b, "output:add": a + b}
    arrays: dict[str, Any] = {name: array[None] for name, array in values.items()}
    np.savez(bench.folder / "reference.npz", **arrays)
    found = trial(bench, made(bench, write_two(tmp_path / "two.onnx"), specs), specs)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs == 0.0


@pytest.mark.parametrize(("top", "kind"), [(9, None), (2**40, "unsupported_shape")])
def test_integers_are_narrowed_where_they_fit(
    bench: Bench, tmp_path: Path, top: int, kind: str | None
) -> None:
    table = np.arange(30, dtype=np.float32).reshape(10, 3)
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    inputs = [value("ids", [1, 4], TensorProto.INT64)]
    source = write(tmp_path / "m.onnx", node, inputs, [value("y", [1, 4, 3])], table=table)
    specs = (TensorSpec("ids", "int64", (1, 4)),)
    ids = np.array([[[0, 3, 7, top]]], np.int64)
    arrays: dict[str, Any] = {"input:ids": ids, "output:y": table[np.minimum(ids, 9)]}
    np.savez(bench.folder / "reference.npz", **arrays)
    found = trial(bench, made(bench, source, specs), specs)
    assert (found.failure and found.failure.kind) == kind
    if kind is None:
        assert found.fidelity is not None
        assert found.fidelity.max_abs == 0.0


@pytest.mark.parametrize("domain", ["", "com.example"])
def test_an_unknown_operator_is_named(bench: Bench, tmp_path: Path, domain: str) -> None:
    source = write_unknown_operator(tmp_path / "m.onnx", domain)
    found = convert(bench, source, (TensorSpec("x", "float32", (1, 3)),))
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_operator")
    assert "Frobnicate" in found.failure.message
    assert {p.name for p in bench.folder.iterdir()} <= {"stage", "step1"}


def test_an_operator_that_only_ncnn_lacks_is_named(bench: Bench, tmp_path: Path) -> None:
    node = helper.make_node("Det", ["x"], ["y"])
    source = write(tmp_path / "m.onnx", node, [value("x", [1, 3, 3])], [value("y", [1])])
    found = convert(bench, source, (TensorSpec("x", "float32", (1, 3, 3)),))
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_operator")
    assert "ncnn does not support operator Det" in found.failure.message


def test_what_ncnn_has_no_tensor_for_is_named(bench: Bench, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    five = [2, 2, 3, 4, 5]
    source = write(tmp_path / "5.onnx", node, [value("x", five)], [value("y", five)])
    found = convert(bench, source, (TensorSpec("x", "float32", tuple(five)),))
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_shape")
    assert "5 dimensions" in found.failure.message
    kind = TensorProto.DOUBLE
    source = write(
        tmp_path / "d.onnx", node, [value("x", [1, 3], kind)], [value("y", [1, 3], kind)]
    )
    found = convert(bench, source, (TensorSpec("x", "float64", (1, 3)),))
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_format")
    assert "float64" in found.failure.message


@pytest.mark.parametrize("content", [b"", b"no model at all", None])
def test_a_damaged_source_is_named(bench: Bench, tmp_path: Path, content: bytes | None) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    source.write_bytes(source.read_bytes()[:-40] if content is None else content)
    found = convert(bench, source)
    assert found.failure is not None
    assert (found.failure.stage, found.failure.kind) == ("convert", "bad_model")


@pytest.mark.parametrize("file", ["model.param", "model.bin", "notes.json"])
def test_a_damaged_artifact_is_a_bad_model(bench: Bench, tmp_path: Path, file: str) -> None:
    artifact = made(bench, write_onnx(tmp_path / "m.onnx"))
    (artifact.parent / file).write_bytes((artifact.parent / file).read_bytes()[:-40])
    found = trial(bench, artifact)
    assert found.failure is not None
    assert (found.failure.stage, found.failure.kind) == ("load", "bad_model")
    shutil.rmtree(artifact.parent)


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"options": {"winograd": 3}}, "bad_option", "on, off"),
        ({"options": {"speed": 3}}, "bad_option", "winograd"),
        ({"precision": "int8"}, "unsupported_precision", "fp32, fp16"),
        ({"target": "VULKAN:7"}, "unsupported_target", "CPU"),
    ],
)
def test_what_it_cannot_do_is_named_with_what_it_can(
    bench: Bench, tmp_path: Path, change: dict[str, Any], kind: str, word: str
) -> None:
    artifact = made(bench, write_onnx(tmp_path / "m.onnx"))
    found = trial(bench, artifact, runtime=change)
    assert found.failure is not None
    assert found.failure.kind == kind
    assert word in found.failure.message


SESSION = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.contract import failures
from agent.runtimes import registry

artifact = Path(sys.argv[2])
backend = registry.find_backend("ncnn")
spec = TensorSpec("x", "float32", (1, 3, 6, 6))
for options in ({}, {"winograd": "off", "packing": "off"}):
    session = backend.load(artifact, RuntimeRef("ncnn", threads=2, options=options), [spec])
    assert list(session.inputs) == [spec], session.inputs
    assert session.outputs[0].name == "y" and session.outputs[0].shape == (1, 5), session.outputs
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
free = backend.load(artifact, RuntimeRef("ncnn"))
assert free.inputs[0].shape == (-1, 3, 6, 6), free.inputs
assert free.outputs[0].shape == (-1, 5), free.outputs
for batch in (2, 3):
    free.bind({"x": np.ones((batch, 3, 6, 6), np.float32)})
    free.infer()
    assert free.read()["y"].shape == (batch, 5)
"""


def test_a_session_keeps_the_protocol(bench: Bench, tmp_path: Path) -> None:
    artifact = made(bench, write_onnx(tmp_path / "m.onnx", "N"))
    command = [python_of("ncnn"), "-c", SESSION, str(ROOT), str(artifact)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
