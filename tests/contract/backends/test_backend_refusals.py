"""One suite for every backend: what it refuses, and outputs that are not the reference's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.child_jobs import Probed
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry
from support.runner_child import (
    QUICK,
    Bench,
    child,
    model_of,
    reference_file,
    require,
    write_poles,
    write_unknown_operator,
)
from support.runtime_contract import BackendCase


def test_a_batch_that_a_fixed_model_cannot_take_is_a_result(
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
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


@pytest.mark.parametrize("content", [b"", b"no model at all", None])
def test_a_damaged_artifact_is_a_bad_model(
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path, content: bytes | None
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
        ({"precision": "fp2"}, "unsupported", "unsupported_precision", "fp32"),
        ({"target": "NPU"}, "unsupported", "unsupported_target", "CPU"),
        ({"backend": "nothing"}, "failed", "bad_request", ", ".join(registry.backend_names())),
    ],
)
def test_what_it_cannot_do_is_named_with_what_it_can(
    case: BackendCase,
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
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
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
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
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
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
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


def test_a_damaged_source_gives_no_reference(
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    source = tmp_path / models["free"].name
    source.write_bytes(models["free"].read_bytes()[:-40])
    found = bench.reference(model_of(source, case.form), source)
    assert found.failure is not None
    assert found.failure.kind == "bad_model"


def test_a_backend_missing_under_another_interpreter_says_how_to_get_it() -> None:
    found = child("onnxruntime", "probe", None, Probed).runtimes
    for facts in found:
        if facts.missing:
            assert "install " in facts.missing
