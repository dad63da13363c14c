"""One suite for every converter of exported programs (``.pt2``), through the real child and on to a
trial of what was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.child_jobs import Converted
from agent.contract.trial import RuntimeRef, TensorSpec
from support.need import need
from support.runner_child import (
    SPEC,
    Bench,
    dataset_file,
    facts_of,
    model_of,
    reference_file,
    require,
    write_pt2,
)
from support.runtime_cases import CONVERTERS
from support.runtime_contract import ConverterCase
from support.torch_programs import write_special

CASES = {name: case for name, case in CONVERTERS.items() if case.source == "pt2"}
READERS = ("executorch_lower", "torch_onnx")
"""Two of those that share the reading of programs."""


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> ConverterCase:
    found = CASES[request.param]
    require("pytorch")
    require(found.backend)
    facts = facts_of(found.backend, found.tools)
    offered = any(found.precision in target.precisions for target in facts.targets)
    need(found.tools or found.backend, offered, f"{found.converter} is not installed")
    return found


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    require("pytorch")
    folder = tmp_path_factory.mktemp("programs")
    free, fixed = write_pt2(folder)
    return {"free": free, "fixed": fixed, **write_special(folder)}


@pytest.fixture
def bench(case: ConverterCase, tmp_path: Path) -> Bench:
    folder = tmp_path / "job"
    folder.mkdir()
    return Bench(case.backend, folder, tools=case.tools)


def made_of(
    case: ConverterCase,
    bench: Bench,
    source: Path,
    specs: tuple[TensorSpec, ...],
    options: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[Converted, RuntimeRef]:
    runtime = RuntimeRef(case.backend, precision=case.precision, threads=1, options=options or {})
    made = bench.convert(model_of(source, "pt2", specs), runtime, source, **more)
    return made, runtime


def test_a_program_of_free_batch_is_made_runs_and_still_fits(
    case: ConverterCase, programs: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    source = programs["free"]
    before = sorted(p.name for p in source.parent.iterdir())
    dataset = dataset_file(tmp_path / "dataset.npz")
    data = {"calibration": "dataset", "dataset": str(dataset)}
    more: dict[str, Any] = data if case.calibrated else {}
    made, runtime = made_of(case, bench, source, (SPEC,), **more)
    assert made.failure is None
    assert (made.status, made.format) == ("ok", case.form)
    assert case.converter in made.steps[0]
    assert ("20 samples of the data set" in made.steps[0]) is case.calibrated
    artifact = Path(made.artifact)
    assert {p.name for p in artifact.parent.iterdir()} == case.files
    assert {p.name for p in bench.folder.iterdir()} == {"stage", artifact.parent.name}
    assert sorted(p.name for p in source.parent.iterdir()) == before

    # Under the names that the artifact has: the program's own input is not called x.
    name = {"onnx": "picture"}.get(case.form, "x")
    path = reference_file(tmp_path / "reference.npz")
    arrays = dict(np.load(path))
    np.savez(path, **{f"input:{name}": arrays["input:x"], "output:y": arrays["output:y"]})
    spec = TensorSpec(name, SPEC.dtype, SPEC.shape)
    model = model_of(source, "pt2", (spec,))
    found = bench.trial(model, runtime, artifact, path, form=made.format, dataset=dataset, top1=1.0)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert (found.fidelity.max_abs < 1e-4) is (case.precision == "fp32")
    assert found.accuracy is not None
    assert found.accuracy.top1 > 0.7


def test_an_operator_that_the_tool_lacks_is_named(
    case: ConverterCase, programs: dict[str, Path], bench: Bench
) -> None:
    if case.calibrated:
        pytest.skip("lowers as the converter without calibration does")
    spec = TensorSpec("x", "float32", (1, 3))
    made, _ = made_of(case, bench, programs["gamma"], (spec,), calibration="random")
    assert made.failure is not None
    assert (made.status, made.failure.kind) == ("unsupported", "unsupported_operator")
    assert case.lacks in made.failure.message


@pytest.mark.parametrize("case", READERS, indirect=True)
def test_shapes_that_the_program_does_not_take_are_named(
    case: ConverterCase, programs: dict[str, Path], bench: Bench
) -> None:
    spec = TensorSpec("x", "float32", (2, 3, 6, 6))
    made, _ = made_of(case, bench, programs["fixed"], (spec,), calibration="random")
    assert made.failure is not None
    assert (made.status, made.failure.kind) == ("unsupported", "unsupported_shape")
    assert "[1, 3, 6, 6], asked for [2, 3, 6, 6]" in made.failure.message


@pytest.mark.parametrize("case", READERS, indirect=True)
def test_a_damaged_program_is_named(
    case: ConverterCase, programs: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    source = tmp_path / "cut.pt2"
    source.write_bytes(programs["fixed"].read_bytes()[:-40])
    made, _ = made_of(case, bench, source, (SPEC,), calibration="random")
    assert made.failure is not None
    assert (made.failure.stage, made.failure.kind) == ("convert", "bad_model")


def test_several_inputs_keep_their_order_and_integers_their_values(
    case: ConverterCase, programs: dict[str, Path], bench: Bench
) -> None:
    if case.calibrated:
        pytest.skip("values that are quantised are not kept")
    ids = np.array([[0, 3, 7, 9]], np.int64)
    more = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    rows = np.arange(30, dtype=np.float32).reshape(10, 3)[ids]
    specs = (TensorSpec("ids", "int64", (1, 4)), TensorSpec("more", "float32", (1, 4, 3)))
    made, runtime = made_of(case, bench, programs["pick"], specs)
    assert made.failure is None
    # Outputs are paired in order: their names are the tool's own.
    arrays: dict[str, Any] = {"input:ids": ids, "input:more": more}
    arrays |= {"output:0": rows + more, "output:1": rows - more}
    reference = bench.folder / "reference.npz"
    np.savez(reference, **{name: array[None] for name, array in arrays.items()})
    model = model_of(programs["pick"], "pt2", specs)
    found = bench.trial(model, runtime, Path(made.artifact), reference, form=made.format)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.max_abs == 0.0
