"""One suite for every backend: its sessions, in process, where this interpreter has the runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.failures import (
    BadModel,
    BadOption,
    UnsupportedOperator,
    UnsupportedPrecision,
    UnsupportedShape,
    UnsupportedTarget,
)
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry
from agent.runtimes.backend import OwnLatency, Session
from support.environments import python_of
from support.runner_child import SPEC, expected, write_two, write_unknown_operator
from support.runtime_contract import BackendCase


def feed_of(seed: int) -> dict[str, Any]:
    x = np.random.RandomState(seed).standard_normal(SPEC.shape).astype(np.float32)
    return {"x": x}


@pytest.fixture
def session(case: BackendCase, models: dict[str, Path]) -> Iterator[Session]:
    found = load(case, models["free"], (SPEC,))
    yield found
    found.close()


def load(
    case: BackendCase, artifact: Path, inputs: Sequence[TensorSpec] = (), **runtime: Any
) -> Session:
    if importlib.util.find_spec(case.module) is None:
        pytest.skip(f"{case.module} runs under {python_of(case.key)} only")
    backend = registry.find_backend(case.backend)
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


def test_its_own_latency_is_a_positive_number_of_nanoseconds(
    case: BackendCase, session: Session
) -> None:
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
    case: BackendCase, models: dict[str, Path]
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


def test_several_inputs_and_outputs_keep_their_names(case: BackendCase, tmp_path: Path) -> None:
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


def test_a_closed_session_does_not_infer(case: BackendCase, models: dict[str, Path]) -> None:
    session = load(case, models["free"], (SPEC,))
    session.bind(feed_of(1))
    session.close()
    with pytest.raises((RuntimeError, TypeError)):
        session.infer()


def test_errors_have_their_names(
    case: BackendCase, models: dict[str, Path], tmp_path: Path
) -> None:
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
        load(case, artifact, (SPEC,), precision="fp2")
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


def test_options_and_threads_are_accepted(case: BackendCase, models: dict[str, Path]) -> None:
    for key, values in registry.find_backend(case.backend).options.items():
        for value in values:
            if value == "compile":  # a C++ compiler at work: see test_compiled_programs
                continue
            load(case, models["free"], (SPEC,), threads=2, options={key: value}).close()
