"""One suite for every converter of ONNX, through the real child and on to a trial of what was made.

A converter joins by its runtime's file in ``tests/contract/runtimes``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry
from support.need import need
from support.runner_child import (
    SPEC,
    Bench,
    dataset_file,
    model_of,
    reference_file,
    require,
    write_onnx,
    write_unknown_operator,
)
from support.runtime_cases import CONTRACTS, CONVERTERS
from support.runtime_contract import ConverterCase

CASES = {name: case for name, case in CONVERTERS.items() if case.source == "onnx"}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> ConverterCase:
    found = CASES[request.param]
    facts = require(found.backend)
    offered = any(found.precision in target.precisions for target in facts.targets)
    need(found.backend, offered, f"{found.converter} is not installed")
    return found


@pytest.fixture
def calibrated(case: ConverterCase) -> ConverterCase:
    if not case.calibrated:
        pytest.skip(f"{case.converter} needs no calibration")
    return case


@pytest.fixture
def runtime(case: ConverterCase) -> RuntimeRef:
    return RuntimeRef(case.backend, precision=case.precision, threads=1)


@pytest.fixture
def bench(case: ConverterCase, tmp_path: Path) -> Bench:
    folder = tmp_path / "job"
    folder.mkdir()
    return Bench(case.backend, folder)


def test_every_converter_is_tested_by_its_own_runtimes_file() -> None:
    tested = {
        runtime: {case.converter for case in contract.converters} | contract.other_converters
        for runtime, contract in CONTRACTS.items()
    }
    found: dict[str, set[str]] = {runtime: set() for runtime in registry.backend_names()}
    for name in registry.converter_names():
        module = type(registry.find_converter(name)).__module__
        found[module.split(".")[2]].add(name)
    assert tested == found


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_model_is_quantised_runs_and_still_fits(
    case: ConverterCase, bench: Bench, runtime: RuntimeRef, tmp_path: Path, batch: int | str
) -> None:
    (tmp_path / "blobs").mkdir()
    source = write_onnx(tmp_path / "blobs" / "0123abcd", batch)
    before = source.read_bytes()
    model = model_of(source, "onnx")
    dataset = dataset_file(tmp_path / "dataset.npz")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is None
    assert (made.status, made.format) == ("ok", case.form)
    artifact = Path(made.artifact)
    files = {p.name: p.stat().st_size for p in artifact.parent.iterdir()}
    assert set(files) == case.files
    assert made.size_bytes == sum(files.values())
    assert case.converter in made.steps[0]
    assert ("20 samples of the data set" in made.steps[0]) is case.calibrated
    assert made.seconds > 0
    # Nothing is left behind, neither in the job's folder nor beside the source.
    assert {p.name for p in bench.folder.iterdir()} == {"stage", artifact.parent.name}
    assert [p.name for p in source.parent.iterdir()] == ["0123abcd"]
    assert source.read_bytes() == before

    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model, runtime, artifact, reference, form=made.format, dataset=dataset)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
    assert found.fidelity.max_abs > 0.0  # it is another network: the precision really ran


def test_random_calibration_is_seeded_and_said(
    calibrated: ConverterCase, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = write_onnx(tmp_path / "m.onnx", "N")
    model = model_of(source, "onnx")
    made = bench.convert(model, runtime, source, calibration="random")
    assert made.failure is None
    assert "random inputs" in made.steps[0]
    first = Path(made.artifact).read_bytes()
    again = bench.convert(model, runtime, source, calibration="random")
    assert again.failure is None
    if calibrated.form == "onnx":
        assert Path(again.artifact).read_bytes() == first


@pytest.mark.parametrize("calibration", ["", "dataset"])
def test_without_calibration_data_nothing_is_quantised(
    calibrated: ConverterCase, bench: Bench, runtime: RuntimeRef, tmp_path: Path, calibration: str
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    made = bench.convert(model_of(source, "onnx"), runtime, source, calibration=calibration)
    assert made.failure is not None
    assert (made.status, made.failure.stage, made.failure.kind) == (
        "failed",
        "convert",
        "calibration_missing",
    )
    assert (made.artifact, {p.name for p in bench.folder.iterdir()}) == ("", {"stage"})


def test_calibration_samples_of_another_shape_are_refused(
    calibrated: ConverterCase, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    dataset = tmp_path / "dataset.npz"
    np.savez(dataset, calibration=np.zeros((4, 9), np.float32))
    model = model_of(source, "onnx")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is not None
    assert made.failure.kind == "bad_data"


def test_a_damaged_source_is_named(
    case: ConverterCase, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(write_onnx(source).read_bytes()[:-40])
    made = bench.convert(model_of(source, "onnx"), runtime, source, calibration="random")
    assert made.failure is not None
    assert (made.status, made.failure.stage, made.failure.kind) == (
        "failed",
        "convert",
        "bad_model",
    )


def test_an_unknown_operator_ends_as_a_failure_of_this_model(
    case: ConverterCase, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = write_unknown_operator(tmp_path / "m.onnx")
    model = model_of(source, "onnx", (TensorSpec("x", "float32", (1, 3)),))
    made = bench.convert(model, runtime, source, calibration="random")
    if made.failure is None:  # it changes types only, whatever the operator
        blob = Path(made.artifact)
        reference = reference_file(tmp_path / "reference.npz")
        found = bench.trial(model, runtime, blob, reference, form=made.format)
        failure = found.failure
    else:
        failure = made.failure
    assert failure is not None
    assert failure.kind in ("unsupported_operator", "conversion_failed")
    assert "Frobnicate" in failure.message


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"precision": "fp2"}, "unsupported_precision", "fp32"),
        ({"options": {"speed": 3}}, "bad_option", "'speed'"),
    ],
)
def test_what_cannot_be_made_is_named(
    case: ConverterCase,
    bench: Bench,
    runtime: RuntimeRef,
    tmp_path: Path,
    change: dict[str, Any],
    kind: str,
    word: str,
) -> None:
    source = write_onnx(tmp_path / "m.onnx")
    wanted = RuntimeRef(**{"backend": case.backend, "precision": case.precision, **change})
    made = bench.convert(model_of(source, "onnx"), wanted, source, calibration="random")
    assert made.failure is not None
    assert (made.failure.stage, made.failure.kind) == ("convert", kind)
    assert word in made.failure.message


def test_a_fixed_batch_larger_than_one_is_calibrated_on_whole_batches(
    case: ConverterCase, bench: Bench, runtime: RuntimeRef, tmp_path: Path
) -> None:
    source = write_onnx(tmp_path / "m.onnx", 8)
    model = model_of(source, "onnx", (TensorSpec("x", SPEC.dtype, (8, *SPEC.shape[1:])),))
    dataset = dataset_file(tmp_path / "dataset.npz")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is None
