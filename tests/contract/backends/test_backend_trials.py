"""One suite for every backend: trials and references through the real child of its interpreter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.contract.trial import RuntimeRef, TrialResult
from agent.runtimes import registry
from support.runner_child import (
    QUICK,
    Bench,
    dataset_file,
    expected,
    model_of,
    reference_file,
    require,
)
from support.runtime_cases import CONTRACTS
from support.runtime_contract import BackendCase


def test_every_runtime_has_its_file_in_tests_contract_runtimes() -> None:
    assert set(CONTRACTS) == set(registry.backend_names())


def test_probe_tells_what_it_can_run(case: BackendCase) -> None:
    facts = require(case.key)
    assert facts.version
    assert case.form in facts.accepts
    assert "fp32" in next(t for t in facts.targets if t.name == "CPU").precisions
    key, value = case.option
    assert value in facts.options[key]


def test_a_trial_is_measured_and_verified(
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
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


def _check_samples(case: BackendCase, found: TrialResult, path: Path) -> None:
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
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
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


def test_a_blob_without_an_ending_loads(
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    blob = tmp_path / ("a" * 64)
    blob.write_bytes(models["free"].read_bytes())
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model_of(blob, case.form), RuntimeRef(case.backend), blob, reference)
    assert found.failure is None


def test_the_reference_is_numpys(
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
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


def test_nothing_to_convert_answers_the_source(
    case: BackendCase, models: dict[str, Path], bench: Bench, tmp_path: Path
) -> None:
    model = model_of(models["free"], case.form)
    found = bench.convert(model, RuntimeRef(case.backend), models["free"])
    assert (found.status, found.artifact, found.steps) == ("ok", str(models["free"]), ())
    assert (found.format, found.size_bytes) == (case.form, models["free"].stat().st_size)
    assert not list(tmp_path.iterdir())
