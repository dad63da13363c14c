"""A time limit that runs out: its name, its value, during what, whose fault, and nothing lost."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract.child_jobs import TrialJob
from agent.contract.trial import (
    SCHEMA,
    Failure,
    Limits,
    ReferenceRef,
    RuntimeRef,
    TrialRequest,
    TrialResult,
)
from agent.worker.attempts.measured_before import measured_before
from agent.worker.isolation.child_process import CancelRequest, ChildEnd, ChildLimits
from agent.worker.isolation.runner_client import RunnerClient, read_answer
from orchestrator.domain.failure_cause import whose
from support.environments import python_of
from support.runner_child import (
    LOOSE,
    QUICK,
    model_of,
    reference_file,
    require,
    write_onnx,
)

LIMIT = ChildLimits(20.0, 4096, wall_name="limits.trial_s")


def job_of(folder: Path, *, reference: Path, dataset: Path | None = None) -> TrialJob:
    source = write_onnx(folder / "small.onnx")
    request = TrialRequest(
        SCHEMA, "attempt-1", "trial-1", model_of(source, "onnx"), RuntimeRef("onnxruntime"),
        QUICK, ReferenceRef("", 0, 4, "test", 1.0), LOOSE, limits=Limits(trial_s=LIMIT.wall_s),
    )  # fmt: skip
    return TrialJob(
        request, str(source), "onnx", source.stat().st_size, str(reference), str(folder),
        str(dataset) if dataset else None,
    )  # fmt: skip


def ended(folder: Path, job: TrialJob, bounds: ChildLimits) -> Failure:
    with CancelRequest() as cancel:
        outcome = RunnerClient("odd").trial(python_of("onnxruntime"), job, folder, bounds, cancel)
    assert outcome.failure is not None, outcome
    return outcome.failure


def test_a_limit_that_runs_out_while_verifying_loses_no_sample(tmp_path: Path) -> None:
    """The data set is a pipe that nobody writes to, so that the verification never ends."""
    require("onnxruntime")
    pipe = tmp_path / "endless.npz"
    os.mkfifo(pipe)
    reference = reference_file(tmp_path / "reference.npz")
    failure = ended(tmp_path, job_of(tmp_path, reference=reference, dataset=pipe), LIMIT)
    assert (failure.stage, failure.kind, whose(failure)) == ("verify", "timeout", "input")
    assert failure.message == (
        "limits.trial_s of 20 s ran out while verifying the outputs; the samples are kept; raise "
        "it in the sweep, or register a smaller data set"
    )
    kept = measured_before(tmp_path, failure)
    assert kept is not None
    assert (kept.status, kept.failure) == ("failed", failure)
    assert kept.samples is not None
    assert (tmp_path / "samples.i64").stat().st_size == 8 * kept.samples.count
    assert kept.fidelity is not None, "the outputs had been compared, the data set not yet scored"
    assert kept.phases.measure_s is not None


def test_a_limit_that_runs_out_before_measuring_keeps_nothing(tmp_path: Path) -> None:
    require("onnxruntime")
    pipe = tmp_path / "endless.npz"
    os.mkfifo(pipe)
    short = replace(LIMIT, wall_s=5.0)
    failure = ended(tmp_path, job_of(tmp_path, reference=pipe), short)
    assert (failure.kind, whose(failure)) == (
        "timeout",
        "device" if failure.stage == "load" else "harness",
    )
    assert failure.message.startswith("limits.trial_s of 5 s ran out while ")
    assert measured_before(tmp_path, failure) is None


@pytest.mark.parametrize(
    ("stage", "verb", "name", "fault", "says"),
    [
        ("convert", "convert", "limits.convert_s", "input", "converting the model; raise it in"),
        ("environment", "trial", "limits.trial_s", "harness", "starting the runtime; raise it in"),
        ("load", "trial", "limits.trial_s", "device", "loading the model; raise it in the sweep"),
        ("warm_up", "trial", "limits.trial_s", "device", "warming up; raise it in the sweep if"),
        ("measure", "trial", "limits.trial_s", "device", "or lower scenario.max_duration_s"),
        ("verify", "trial", "limits.trial_s", "input", "the samples are kept; raise it"),
    ],
)
def test_each_stage_has_its_limit_its_fault_and_its_remedy(
    stage: str, verb: str, name: str, fault: str, says: str
) -> None:
    end = ChildEnd(None, "SIGTERM", "timeout", None, "", stage, 5.0)
    bounds = ChildLimits(7.5, 100, wall_name=name)
    failure = read_answer(end, TrialResult, verb, bounds).failure
    assert failure is not None
    assert failure.message.startswith(f"{name} of 7.5 s ran out while ")
    assert says in failure.message
    assert whose(failure) == fault


def test_a_limit_that_no_sweep_sets_is_not_named_as_one() -> None:
    end = ChildEnd(None, "SIGTERM", "timeout", None, "", "", 5.0)
    failure = read_answer(end, TrialResult, "probe", ChildLimits(120.0, 100)).failure
    assert failure is not None
    assert failure.message == "not done within its limit of 120 s (starting the runtime)"


def test_a_memory_limit_is_named_too() -> None:
    end = ChildEnd(None, "SIGKILL", "memory", None, "", "load", 5.0, peak_seen_mib=812.0)
    failure = read_answer(end, TrialResult, "trial", replace(LIMIT, memory_mib=500)).failure
    assert failure is not None
    assert "812 MiB resident, over its limit of 500 MiB (limits.memory_mib, or" in failure.message
