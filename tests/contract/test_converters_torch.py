"""Everything that is made of exported programs (``.pt2``), in one suite: through the real child and
on to a trial of what was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract import RuntimeRef, TensorSpec
from agent.jobs import Converted
from support.need import need
from support.runner_child import (
    SPEC,
    Bench,
    dataset_file,
    model_of,
    reference_file,
    require,
    write_pt2,
)
from support.torch_programs import write_special


@dataclass(frozen=True)
class Case:
    """``python``: the interpreter that has the tool, and the backend's runtime too."""

    converter: str
    python: str
    backend: str
    form: str
    files: frozenset[str]
    precision: str = "fp32"
    calibrated: bool = False
    lacks: str = "aten.lgamma"


CASES = {
    case.converter: case
    for case in (
        Case(
            "executorch_lower",
            "executorch",
            "executorch",
            "executorch_pte",
            frozenset({"model.pte", "notes.json"}),
        ),
        Case(
            "executorch_quantize",
            "executorch",
            "executorch",
            "executorch_pte",
            frozenset({"model.pte", "notes.json"}),
            "int8",
            calibrated=True,
        ),
        Case("litert_torch", "litert_torch", "tflite", "tflite", frozenset({"model.tflite"})),
        Case(
            "torch_onnx",
            "torch_onnx",
            "onnxruntime",
            "onnx",
            frozenset({"model.onnx"}),
            lacks="prims.lgamma",
        ),
    )
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    require("pytorch")
    facts = require(found.python)
    offered = any(found.precision in target.precisions for target in facts.targets)
    need(found.python, offered, f"{found.converter} is not installed")
    return found


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    require("pytorch")
    folder = tmp_path_factory.mktemp("programs")
    free, fixed = write_pt2(folder)
    return {"free": free, "fixed": fixed, **write_special(folder)}


@pytest.fixture
def bench(case: Case, tmp_path: Path) -> Bench:
    folder = tmp_path / "job"
    folder.mkdir()
    return Bench(case.backend, folder, case.python)


def made_of(
    case: Case,
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
    case: Case, programs: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    source = programs["free"]
    before = sorted(p.name for p in source.parent.iterdir())
    dataset = dataset_file(tmp_path / "dataset.npz")
    more = {"calibration": "dataset", "dataset": str(dataset)} if case.calibrated else {}
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
    case: Case, programs: dict[str, Path], bench: Bench
) -> None:
    spec = TensorSpec("x", "float32", (1, 3))
    made, _ = made_of(case, bench, programs["gamma"], (spec,), calibration="random")
    assert made.failure is not None
    assert (made.status, made.failure.kind) == ("unsupported", "unsupported_operator")
    assert case.lacks in made.failure.message


def test_shapes_that_the_program_does_not_take_are_named(
    case: Case, programs: dict[str, Path], bench: Bench
) -> None:
    spec = TensorSpec("x", "float32", (2, 3, 6, 6))
    made, _ = made_of(case, bench, programs["fixed"], (spec,), calibration="random")
    assert made.failure is not None
    assert (made.status, made.failure.kind) == ("unsupported", "unsupported_shape")
    assert "[1, 3, 6, 6], asked for [2, 3, 6, 6]" in made.failure.message


def test_a_damaged_program_is_named(
    case: Case, programs: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    source = tmp_path / "cut.pt2"
    source.write_bytes(programs["fixed"].read_bytes()[:-40])
    made, _ = made_of(case, bench, source, (SPEC,), calibration="random")
    assert made.failure is not None
    assert (made.failure.stage, made.failure.kind) == ("convert", "bad_model")


@pytest.mark.parametrize("converter", ["executorch_lower", "litert_torch", "torch_onnx"])
def test_several_inputs_keep_their_order_and_integers_their_values(
    converter: str, programs: dict[str, Path], tmp_path: Path
) -> None:
    case = CASES[converter]
    require("pytorch")
    require(case.python)
    a, b = np.array([[1, 2, 3]], np.float32), np.array([[10, 20, 30]], np.float32)
    ids = np.array([[0, 3, 7, 9]], np.int64)
    table = np.arange(30, dtype=np.float32).reshape(10, 3)
    feeds: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
        "two": ({"a": a, "b": b}, (a + b, a - b)),
        "lookup": ({"ids": ids}, (table[ids],)),
    }
    for name, (inputs, outputs) in feeds.items():
        folder = tmp_path / name
        folder.mkdir()
        bench = Bench(case.backend, folder, case.python)
        specs = tuple(TensorSpec(n, str(x.dtype), x.shape) for n, x in inputs.items())
        made, runtime = made_of(case, bench, programs[name], specs)
        assert made.failure is None
        # Outputs are paired in order: their names are the tool's own.
        arrays = {f"input:{n}": x[None] for n, x in inputs.items()}
        arrays |= {f"output:{n}": x[None] for n, x in enumerate(outputs)}
        np.savez(folder / "r.npz", **arrays)
        artifact = Path(made.artifact)
        model = model_of(artifact, made.format, specs)
        found = bench.trial(model, runtime, artifact, folder / "r.npz", form=made.format)
        assert found.failure is None
        assert found.fidelity is not None
        assert found.fidelity.max_abs == 0.0
