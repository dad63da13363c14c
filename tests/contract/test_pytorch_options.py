"""PyTorch's precisions, layouts and compile cache, through the child under its interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.contract.trial import RuntimeRef, TrialResult
from support.need import need
from support.runner_child import Bench, model_of, reference_file, require, write_pt2


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("pytorch")
    return write_pt2(tmp_path_factory.mktemp("pt2"))[0]


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
