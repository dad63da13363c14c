"""One suite for every backend: through the real child, and in process where it can be imported.

A backend joins by a line in ``CASES``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract import RuntimeRef, TensorSpec, TrialResult
from agent.jobs import Probed
from agent.runner import backends
from agent.runner.backends.base import OwnLatency, Session
from agent.runner.errors import (
    BadModel,
    BadOption,
    UnsupportedOperator,
    UnsupportedPrecision,
    UnsupportedShape,
    UnsupportedTarget,
)
from support import tensorflow_files
from support.runner_child import (
    QUICK,
    SPEC,
    TFLITE,
    Bench,
    child,
    dataset_file,
    expected,
    model_of,
    python_of,
    reference_file,
    require,
    write_onnx,
    write_poles,
    write_pt2,
    write_two,
    write_unknown_operator,
)


@dataclass(frozen=True)
class Case:
    """``module``: what is imported. ``reshapes_fixed``: a model of fixed batch still takes others.
    ``own_names``: the format names tensors as it likes, so inputs are taken in order.
    ``python``: the interpreter of one runtime of several that the backend is for."""

    backend: str
    form: str
    module: str
    option: tuple[str, str]
    own_latency: bool = False
    reshapes_fixed: bool = False
    own_names: bool = False
    python: str = ""

    @property
    def key(self) -> str:
        return self.python or self.backend


CASES = {
    case.key: case
    for case in (
        Case("onnxruntime", "onnx", "onnxruntime", ("graph_optimization", "disable")),
        Case("openvino", "onnx", "openvino", ("performance_hint", "none"), True, True),
        Case("tensorflow", "savedmodel", "tensorflow", ("call", "session")),
        Case("pytorch", "pt2", "torch", ("mode", "eager"), own_names=True),
        *(
            Case("tflite", "tflite", module, ("xnnpack", "off"), own_names=True, python=python)
            for python, module in (("litert", "ai_edge_litert"), ("tflite", "tflite_runtime"))
        ),
    )
}


ELSEWHERE = {"edgetpu", "executorch", "ncnn", "tensorrt", "tvm"}
"""Tested in files of their own: those of vendors as far as a machine without their hardware goes;
the others load only what their converters make."""


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


def test_every_backend_file_has_its_line_here() -> None:
    assert {case.backend for case in CASES.values()} | ELSEWHERE == set(backends.names())


# --- through the child, under the backend's own interpreter ---


def test_probe_tells_what_it_can_run(case: Case) -> None:
    facts = require(case.key)
    assert facts.version
    assert case.form in facts.accepts
    assert "fp32" in next(t for t in facts.targets if t.name == "CPU").precisions
    key, value = case.option
    assert value in facts.options[key]


def test_a_trial_is_measured_and_verified(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    model = model_of(models["free"], case.form)
    reference = reference_file(tmp_path / "reference.npz")
    dataset = dataset_file(tmp_path / "dataset.npz")
    runtime = RuntimeRef(case.backend, threads=1, options=dict([case.option]))
    found = bench.trial(model, runtime, models["free"], reference, dataset=dataset, top1=1.0)
    assert found.failure is None
    assert (found.status, found.attempt_id) == ("ok", "attempt-1")
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert found.fidelity.max_abs < 1e-4
    assert found.fidelity.feeds == 4
    assert found.accuracy is not None
    assert (found.accuracy.top1, found.accuracy.samples) == (1.0, 30)
    assert found.runtime_version == require(case.key).version
    assert found.placement
    assert found.memory is not None
    assert found.memory.peak_rss_mib >= found.memory.after_import_rss_mib > 0
    assert found.fingerprint_before is not None
    assert found.fingerprint_after is not None
    _check_samples(case, found, tmp_path / "samples.i64")
    _check_phases(found)
    assert (tmp_path / "stage").read_text() == "load"  # the warm one, last


def _check_samples(case: Case, found: TrialResult, path: Path) -> None:
    samples = found.samples
    assert samples is not None
    assert samples.series == (("caller", "runtime") if case.own_latency else ("caller",))
    data = np.fromfile(path, "<i8").reshape(len(samples.series), samples.count)
    assert samples.size_bytes == path.stat().st_size
    assert (data > 0).all()
    assert samples.calls_per_sample == 1
    assert data[0].sum() <= samples.wall_s * 1e9


def _check_phases(found: TrialResult) -> None:
    phases = found.phases
    for seconds in (
        phases.import_s,
        phases.load_cold_s,
        phases.load_warm_s,
        phases.first_inference_ms,
        phases.warm_up_s,
        phases.measure_s,
        phases.verify_s,
    ):
        assert seconds is not None
        assert seconds > 0


def test_a_batch_is_loaded_at_its_size(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    reference = reference_file(tmp_path / "reference.npz", feeds=5)
    dataset = dataset_file(tmp_path / "dataset.npz")
    found = bench.trial(
        model_of(models["free"], case.form),
        RuntimeRef(case.backend),
        models["free"],
        reference,
        scenario=replace(QUICK, batch_size=4),
        dataset=dataset,
    )
    assert found.failure is None
    assert found.samples is not None
    assert found.samples.batch_size == 4
    assert found.fidelity is not None
    assert (found.fidelity.passed, found.fidelity.feeds) == (True, 5)
    assert found.accuracy is not None
    assert (found.accuracy.top1, found.accuracy.samples) == (1.0, 30)


def test_a_batch_that_a_fixed_model_cannot_take_is_a_result(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    found = bench.trial(
        model_of(models["fixed"], case.form),
        RuntimeRef(case.backend),
        models["fixed"],
        reference_file(tmp_path / "reference.npz"),
        scenario=replace(QUICK, batch_size=2),
    )
    if case.reshapes_fixed:
        assert found.status == "ok"
        return
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_shape")
    assert "[1, 3, 6, 6], asked for [2, 3, 6, 6]" in found.failure.message


def test_a_blob_without_an_ending_loads(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    blob = tmp_path / ("a" * 64)
    blob.write_bytes(models["free"].read_bytes())
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model_of(blob, case.form), RuntimeRef(case.backend), blob, reference)
    assert found.failure is None


@pytest.mark.parametrize("content", [b"", b"no model at all", None])
def test_a_damaged_artifact_is_a_bad_model(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path, content: bytes | None
) -> None:
    artifact = tmp_path / models["free"].name
    artifact.write_bytes(models["free"].read_bytes()[:-40] if content is None else content)
    reference = reference_file(tmp_path / "reference.npz")
    runtime = RuntimeRef(case.backend)
    found = bench.trial(model_of(artifact, case.form), runtime, artifact, reference)
    assert found.failure is not None
    assert (found.status, found.failure.stage, found.failure.kind) == (
        "failed",
        "load",
        "bad_model",
    )
    assert found.phases.import_s is not None
    assert (tmp_path / "stage").read_text() == "load"


@pytest.mark.parametrize(
    ("change", "status", "kind", "word"),
    [
        ({"options": {"speed": 3}}, "failed", "bad_option", "speed"),
        ({"precision": "fp8"}, "unsupported", "unsupported_precision", "fp32"),
        ({"target": "NPU"}, "unsupported", "unsupported_target", "CPU"),
        ({"backend": "nothing"}, "failed", "bad_request", ", ".join(backends.names())),
    ],
)
def test_what_it_cannot_do_is_named_with_what_it_can(
    case: Case,
    models: dict[str, Path],
    bench: Bench,
    tmp_path: Path,
    change: dict[str, Any],
    status: str,
    kind: str,
    word: str,
) -> None:
    runtime = replace(RuntimeRef(case.backend), **change)
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model_of(models["free"], case.form), runtime, models["free"], reference)
    assert found.failure is not None
    assert (found.status, found.failure.kind) == (status, kind)
    assert word in found.failure.message


def test_an_unknown_kind_of_load_is_refused_before_loading(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    found = bench.trial(
        model_of(models["free"], case.form),
        RuntimeRef(case.backend),
        models["free"],
        reference_file(tmp_path / "reference.npz"),
        scenario=replace(QUICK, kind="server"),
    )
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_scenario")
    assert found.phases.load_cold_s is None


def test_outputs_that_differ_are_measured_but_do_not_pass(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    path = reference_file(tmp_path / "reference.npz")
    arrays: dict[str, Any] = dict(np.load(path))
    arrays["output:y"] = arrays["output:y"][:, :, ::-1].copy()
    np.savez(path, **arrays)
    runtime = RuntimeRef(case.backend)
    found = bench.trial(model_of(models["free"], case.form), runtime, models["free"], path)
    assert found.status == "ok"
    assert found.fidelity is not None
    assert not found.fidelity.passed


def test_a_reference_of_another_shape_is_invalid_and_keeps_what_was_measured(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    path = reference_file(tmp_path / "reference.npz")
    arrays: dict[str, Any] = dict(np.load(path))
    arrays["output:y"] = arrays["output:y"][:, :, :3]
    np.savez(path, **arrays)
    runtime = RuntimeRef(case.backend)
    found = bench.trial(model_of(models["free"], case.form), runtime, models["free"], path)
    assert found.failure is not None
    assert (found.status, found.failure.stage, found.failure.kind) == (
        "invalid",
        "verify",
        "bad_output",
    )
    assert found.phases.measure_s is not None


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("domain", ["", "com.example"])
def test_an_unknown_operator_is_named(backend: str, domain: str, tmp_path: Path) -> None:
    require(backend)
    path = write_unknown_operator(tmp_path / "m.onnx", domain)
    reference = reference_file(tmp_path / "reference.npz")
    model = model_of(path, "onnx", (TensorSpec("x", "float32", (1, 3)),))
    found = Bench(backend, tmp_path).trial(model, RuntimeRef(backend), path, reference)
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unsupported", "unsupported_operator")
    assert "Frobnicate" in found.failure.message


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_infinite_outputs_are_invalid(backend: str, tmp_path: Path) -> None:
    require(backend)
    path = write_poles(tmp_path / "m.onnx")
    arrays: dict[str, Any] = {
        "input:x": np.zeros((1, 1, 3), np.float32),
        "output:y": np.ones((1, 1, 3), np.float32),
    }
    np.savez(tmp_path / "reference.npz", **arrays)
    model = model_of(path, "onnx", (TensorSpec("x", "float32", (1, 3)),))
    found = Bench(backend, tmp_path).trial(
        model, RuntimeRef(backend), path, tmp_path / "reference.npz"
    )
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("invalid", "bad_output")
    assert "3 of 3 values" in found.failure.message


def test_the_reference_is_numpys(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    if case.backend == "openvino":
        require("onnxruntime")
    model = model_of(models["free"], case.form)
    dataset = dataset_file(tmp_path / "dataset.npz")
    for data, top1 in ((None, None), (dataset, 1.0)):
        found = bench.reference(model, models["free"], data)
        assert found.failure is None
        assert found.top1 == top1
        assert ("onnxruntime" in found.origin) is (case.form == "onnx")
        assert found.outputs[0].shape == (1, 5)
        with np.load(found.path) as file:
            x, y = file["input:x"], file["output:" + found.outputs[0].name]
        assert x.shape == (4, 1, 3, 6, 6)
        np.testing.assert_allclose(y[:, 0], expected(x[:, 0]), atol=1e-5)


def test_a_damaged_source_gives_no_reference(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    source = tmp_path / models["free"].name
    source.write_bytes(models["free"].read_bytes()[:-40])
    found = bench.reference(model_of(source, case.form), source)
    assert found.failure is not None
    assert found.failure.kind == "bad_model"


def test_nothing_to_convert_answers_the_source(
    case: Case, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    model = model_of(models["free"], case.form)
    found = bench.convert(model, RuntimeRef(case.backend), models["free"])
    assert (found.status, found.artifact, found.steps) == ("ok", str(models["free"]), ())
    assert (found.format, found.size_bytes) == (case.form, models["free"].stat().st_size)
    assert not list(tmp_path.iterdir())


def test_a_pt2_that_would_run_code_is_refused(tmp_path: Path) -> None:
    import zipfile

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


def test_a_backend_missing_under_another_interpreter_says_how_to_get_it() -> None:
    found = child("onnxruntime", "probe", None, Probed).runtimes
    for facts in found:
        if facts.missing:
            assert "install " in facts.missing


# --- in process, where this interpreter has the runtime ---


def feed_of(seed: int) -> dict[str, Any]:
    x = np.random.RandomState(seed).standard_normal(SPEC.shape).astype(np.float32)
    return {"x": x}


@pytest.fixture
def session(case: Case, models: dict[str, Path]) -> Iterator[Session]:
    found = load(case, models["free"], (SPEC,))
    yield found
    found.close()


def load(case: Case, artifact: Path, inputs: Sequence[TensorSpec] = (), **runtime: Any) -> Session:
    if importlib.util.find_spec(case.module) is None:
        pytest.skip(f"{case.module} runs under {python_of(case.key)} only")
    backend = backends.find(case.backend)
    return backend.load(artifact, RuntimeRef(case.backend, **runtime), inputs)


def only(session: Session) -> Any:
    (array,) = session.read().values()
    return array


def test_a_session_tells_its_shapes(session: Session) -> None:
    assert tuple(session.inputs) == (SPEC,)
    (output,) = session.outputs
    assert (output.dtype, output.shape[-1]) == ("float32", 5)
    assert output.shape[0] in (1, -1)
    assert session.placement


def test_binding_again_changes_the_outputs_and_read_gives_copies(session: Session) -> None:
    found = []
    for seed in (1, 2, 1):
        session.bind(feed_of(seed))
        session.infer()
        found.append(only(session))
        np.testing.assert_allclose(found[-1], expected(feed_of(seed)["x"]), atol=1e-5)
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])


def test_what_is_bound_is_copied(session: Session) -> None:
    feed = feed_of(3)
    session.bind(feed)
    wanted = expected(feed["x"])
    feed["x"][:] = 0.0
    session.infer()
    np.testing.assert_allclose(only(session), wanted, atol=1e-5)


def test_its_own_latency_is_a_positive_number_of_nanoseconds(case: Case, session: Session) -> None:
    assert isinstance(session, OwnLatency) is case.own_latency
    if isinstance(session, OwnLatency):
        session.bind(feed_of(1))
        session.infer()
        assert 0 < session.own_latency_ns() < 10**9


def test_inputs_that_do_not_fit_are_refused(session: Session) -> None:
    for feed in ({"x": np.zeros((1, 3, 5, 5), np.float32)}, {"z": np.zeros(1, np.float32)}):
        with pytest.raises(UnsupportedShape):
            session.bind(feed)


def test_without_wanted_shapes_a_free_dimension_stays_free(
    case: Case, models: dict[str, Path]
) -> None:
    session = load(case, models["free"])
    (spec,) = session.inputs
    assert spec.shape == (-1, 3, 6, 6)
    for batch in (2, 3):
        x = np.random.RandomState(batch).standard_normal((batch, 3, 6, 6)).astype(np.float32)
        session.bind({spec.name: x})
        session.infer()
        np.testing.assert_allclose(only(session), expected(x), atol=1e-5)
    session.close()


def test_several_inputs_and_outputs_keep_their_names(case: Case, tmp_path: Path) -> None:
    if case.form != "onnx":
        pytest.skip("an ONNX model")
    specs = [TensorSpec(name, "float32", (1, 3)) for name in ("a", "b")]
    session = load(case, write_two(tmp_path / "two.onnx"), specs)
    a = np.array([[1, 2, 3]], np.float32)
    b = np.array([[10, 20, 30]], np.float32)
    session.bind({"b": b, "a": a})
    session.infer()
    found = session.read()
    np.testing.assert_array_equal(found["add"], a + b)
    np.testing.assert_array_equal(found["sub"], a - b)
    session.close()


def test_a_closed_session_does_not_infer(case: Case, models: dict[str, Path]) -> None:
    session = load(case, models["free"], (SPEC,))
    session.bind(feed_of(1))
    session.close()
    with pytest.raises((RuntimeError, TypeError)):
        session.infer()


def test_errors_have_their_names(case: Case, models: dict[str, Path], tmp_path: Path) -> None:
    artifact = models["free"]
    damaged = tmp_path / artifact.name
    damaged.write_bytes(artifact.read_bytes()[:-40])
    with pytest.raises(BadModel):
        load(case, damaged, (SPEC,))
    with pytest.raises(BadModel):
        load(case, tmp_path / "missing.onnx", (SPEC,))
    key, _ = case.option
    with pytest.raises(BadOption, match="accepts"):
        load(case, artifact, (SPEC,), options={key: "nonsense"})
    with pytest.raises(UnsupportedPrecision):
        load(case, artifact, (SPEC,), precision="fp8")
    with pytest.raises(UnsupportedTarget):
        load(case, artifact, (SPEC,), target="NPU")
    with pytest.raises(UnsupportedShape):
        load(case, artifact, (replace(SPEC, shape=(1, 3, 6)),))
    if not case.own_names:
        with pytest.raises(UnsupportedShape, match="the model's inputs are x; asked for z"):
            load(case, artifact, (replace(SPEC, name="z"),))
    if case.form == "onnx":
        with pytest.raises(UnsupportedOperator, match="Frobnicate"):
            load(case, write_unknown_operator(tmp_path / "unknown.onnx"))


def test_options_and_threads_are_accepted(case: Case, models: dict[str, Path]) -> None:
    for key, values in backends.find(case.backend).options.items():
        for value in values:
            if value == "compile":  # a C++ compiler at work: see test_compiled_programs
                continue
            load(case, models["free"], (SPEC,), threads=2, options={key: value}).close()


@pytest.mark.timeout(600)
def test_compiled_programs(tmp_path: Path) -> None:
    require("pytorch")
    free, _ = write_pt2(tmp_path)
    found = Bench("pytorch", tmp_path).trial(
        model_of(free, "pt2"),
        RuntimeRef("pytorch", threads=1, options={"mode": "compile"}),
        free,
        reference_file(tmp_path / "reference.npz"),
    )
    if found.failure is not None and found.failure.kind == "runtime_missing":
        assert "g++" in found.failure.message
        return
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert "compile" in found.placement
