"""The course of one attempt, with a played child: every ending is a result."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

import agent
from agent.contract import codec
from agent.contract.child_jobs import SO_FAR, Converted, TrialJob
from agent.contract.trial import Failure, TrialRequest, TrialResult
from agent.worker.attempts.attempt import FinishedAttempt, execute
from agent.worker.isolation.child_process import CancelRequest, ChildEnd
from agent.worker.isolation.runner_client import ChildOutcome
from support.played_board import ENDED, MODEL, Board, make_board, make_request, measured, sha


def run(
    request: TrialRequest, board: Board, folder: Path, cancel: CancelRequest | None = None
) -> FinishedAttempt:
    folder.mkdir(exist_ok=True)
    with CancelRequest() as own:
        finished = execute(request, board.services, cancel or own, folder, started_at=99.0)
    assert codec.loads(TrialResult, codec.dumps(finished.result)) == finished.result
    assert (finished.result.failure is None) == (finished.result.status == "ok")
    return finished


@pytest.fixture
def request_() -> TrialRequest:
    return make_request()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return make_board(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "attempt"


def test_a_good_attempt(request_: TrialRequest, board: Board, folder: Path) -> None:
    finished = run(request_, board, folder)
    result = finished.result
    assert (result.status, result.attempt_id) == ("ok", "a1")
    assert result.agent_version == agent.__version__
    assert (result.environment, result.runtime_version) == ("default", "1.31.1")
    assert result.artifact_size_bytes == 17
    assert not result.convert_cached
    phases = result.phases
    assert (phases.convert_s, phases.process_s, phases.total_s) == (1.5, 2.0, 3.0)
    assert phases.fetch_s == 0.0
    assert result.samples is not None
    assert finished.blob is not None
    packed = finished.blob.read_bytes()
    assert result.samples.sha256 == hashlib.sha256(packed).hexdigest() == finished.blob.stem
    assert (result.samples.encoding, result.samples.size_bytes) == ("int64le+zstd", len(packed))
    assert zstandard.ZstdDecompressor().decompress(packed) == bytes(800)


def test_the_child_gets_its_limits_and_its_files(
    request_: TrialRequest, board: Board, folder: Path
) -> None:
    run(request_, board, folder)
    [(python, job, bounds)] = board.runner.trials
    assert python == "/usr/bin/python3"
    assert (bounds.wall_s, bounds.memory_mib) == (9.0, 500)
    assert (job.artifact_format, job.artifact_size_bytes) == ("ort", 17)
    assert Path(job.artifact).read_bytes() == MODEL + b" converted"
    assert Path(job.folder).is_dir()
    assert job.request.runtime.threads == 2
    assert board.runner.converts[0].runtime.threads == 0


def test_the_second_attempt_converts_nothing(
    request_: TrialRequest, board: Board, folder: Path
) -> None:
    run(request_, board, folder)
    second = run(replace(request_, attempt_id="a2"), board, folder).result
    assert len(board.runner.converts) == 1
    assert (second.convert_cached, second.phases.convert_s) == (True, 0.0)
    assert second.attempt_id == "a2"


def ending(board: Board, outcome: ChildOutcome) -> None:
    board.runner.trial_outcome = lambda _job: outcome


def ended_after_measuring(board: Board, failure: Failure) -> None:
    """The child wrote its samples and what it knew, and was ended by ``failure``."""

    def play(job: TrialJob) -> ChildOutcome:
        Path(job.folder, "samples.i64").write_bytes(bytes(800))
        Path(job.folder, SO_FAR).write_text(codec.dumps(measured(50)))
        return ChildOutcome(ENDED, failure=failure)

    board.runner.trial_outcome = play


@pytest.mark.parametrize(
    ("stage", "kind"), [("verify", "timeout"), ("verify", "out_of_memory"), ("verify", "crash")]
)
def test_samples_that_were_taken_outlive_what_ends_the_child_afterwards(
    request_: TrialRequest, board: Board, folder: Path, stage: str, kind: str
) -> None:
    ended_after_measuring(board, Failure(stage, kind, "why"))
    finished = run(request_, board, folder)
    assert finished.result.status == "failed"
    assert finished.result.failure == Failure(stage, kind, "why")
    assert finished.result.samples is not None
    assert finished.blob is not None
    assert zstandard.ZstdDecompressor().decompress(finished.blob.read_bytes()) == bytes(800)
    assert finished.result.phases.process_s is not None


def test_a_second_load_over_the_time_limit_costs_its_own_figure_only(
    request_: TrialRequest, board: Board, folder: Path
) -> None:
    ended_after_measuring(board, Failure("load", "timeout", "why"))
    finished = run(request_, board, folder)
    assert (finished.result.status, finished.result.failure) == ("ok", None)
    assert finished.result.samples is not None


def test_a_cancelled_child_leaves_no_samples(
    request_: TrialRequest, board: Board, folder: Path
) -> None:
    ended_after_measuring(board, Failure("verify", "lease_lost", "why", True))
    finished = run(request_, board, folder)
    assert (finished.result.status, finished.result.samples) == ("cancelled", None)


CRASH = Failure("load", "crash", "SIGSEGV", log_tail="tail")
KILLED = ChildEnd(None, "SIGTERM", "lease", None, "", "measure", 1.0)


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (ChildOutcome(ENDED, failure=CRASH), "failed", "crash"),
        (ChildOutcome(None, failure=Failure("environment", "io", "no python")), "failed", "io"),
        (
            ChildOutcome(KILLED, failure=Failure("measure", "lease_lost", "x", True)),
            "cancelled",
            "lease_lost",
        ),
        (ChildOutcome(ENDED, answer=replace(measured(50), samples=None)), "failed", "bad_answer"),
        (ChildOutcome(ENDED, answer=measured(50)), "failed", "bad_answer"),
        (
            ChildOutcome(
                ENDED,
                answer=replace(
                    measured(1),
                    samples=None,
                    status="unsupported",
                    failure=Failure("load", "unsupported_operator", "NonMaxSuppression"),
                ),
            ),
            "unsupported",
            "unsupported_operator",
        ),
    ],
    ids=["crash", "no interpreter", "lease", "no samples", "no samples file", "unsupported"],
)
def test_endings_of_the_child(
    request_: TrialRequest,
    board: Board,
    folder: Path,
    outcome: ChildOutcome,
    status: str,
    kind: str,
) -> None:
    ending(board, outcome)
    finished = run(request_, board, folder)
    assert finished.blob is None
    assert finished.result.failure is not None
    assert (finished.result.status, finished.result.failure.kind) == (status, kind)
    assert finished.result.phases.convert_s == 1.5
    assert finished.result.environment == "default"


@pytest.mark.parametrize(
    ("change", "stage", "kind", "transient"),
    [
        ({"schema": 99}, "environment", "schema", False),
        ({"runtime.version": "9"}, "environment", "runtime_missing", False),
        ({"runtime.backend": "tvm"}, "environment", "runtime_missing", False),
        ({"model.sha256": "0" * 64}, "fetch", "blob_missing", False),
        ({"model.size_bytes": 1 << 60}, "fetch", "disk_full", False),
    ],
)
def test_what_ends_before_the_child(
    request_: TrialRequest,
    board: Board,
    folder: Path,
    change: dict[str, Any],
    stage: str,
    kind: str,
    transient: bool,
) -> None:
    for path, value in change.items():
        outer, _, inner = path.partition(".")
        part = replace(getattr(request_, outer), **{inner: value}) if inner else value
        request_ = replace(request_, **{outer: part})
    result = run(request_, board, folder).result
    assert result.failure is not None
    assert (result.status, result.failure.stage, result.failure.kind) == ("failed", stage, kind)
    assert result.failure.transient is transient
    assert board.runner.trials == []


def test_a_blob_that_arrives_damaged_is_worth_another_attempt(
    request_: TrialRequest, board: Board, folder: Path
) -> None:
    board.served[sha(MODEL)] = b"another"
    result = run(request_, board, folder).result
    assert result.failure is not None
    assert (result.failure.kind, result.failure.transient) == ("blob_corrupt", True)


def test_a_conversion_that_is_unsupported_is_a_result_and_is_not_kept(
    request_: TrialRequest, board: Board, folder: Path
) -> None:
    failure = Failure("convert", "unsupported_operator", "x")
    board.runner.convert_outcome = lambda _job: ChildOutcome(
        ENDED, answer=Converted(status="unsupported", failure=failure)
    )
    for _ in range(2):
        result = run(request_, board, folder).result
        assert (result.status, result.failure) == ("unsupported", failure)
    assert len(board.runner.converts) == 2


def test_a_conversion_that_crashed(request_: TrialRequest, board: Board, folder: Path) -> None:
    failure = Failure("convert", "timeout", "x")
    board.runner.convert_outcome = lambda _job: ChildOutcome(ENDED, failure=failure)
    result = run(request_, board, folder).result
    assert (result.status, result.failure) == ("failed", failure)


def test_an_artifact_outside_its_folder_is_refused(
    request_: TrialRequest, board: Board, folder: Path
) -> None:
    board.runner.convert_outcome = lambda _job: ChildOutcome(
        ENDED, answer=Converted("/etc/passwd", "ort", 1)
    )
    result = run(request_, board, folder).result
    assert result.failure is not None
    assert "/etc/passwd" in result.failure.message


@pytest.mark.parametrize("reason", ["cancelled", "lease", "shutdown"])
def test_a_cancel_before_anything_began(
    request_: TrialRequest, board: Board, folder: Path, reason: str
) -> None:
    with CancelRequest() as cancel:
        cancel.set(reason)
        result = run(request_, board, folder, cancel).result
    assert result.status == "cancelled"
    assert (len(board.runner.trials), len(board.runner.converts)) == (0, 0)


def test_a_cancel_while_converting(request_: TrialRequest, board: Board, folder: Path) -> None:
    with CancelRequest() as cancel:

        def convert(_job: object) -> ChildOutcome:
            cancel.set("shutdown")
            return ChildOutcome(KILLED, failure=Failure("convert", "shutdown", "x", True))

        board.runner.convert_outcome = convert
        result = run(request_, board, folder, cancel).result
    assert result.failure is not None
    assert (result.status, result.failure.kind, result.failure.stage) == (
        "cancelled",
        "shutdown",
        "convert",
    )


def test_samples_that_the_disk_has_no_room_for_are_not_left_there_by_half(
    request_: TrialRequest, board: Board, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        if list(board.services.samples_dir.iterdir()):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run(request_, board, folder).result
    assert result.failure is not None
    assert (result.failure.stage, result.failure.kind) == ("measure", "disk_full")
    assert list(board.services.samples_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind", "transient"),
    [
        (RuntimeError("?"), "internal", False),
        (OSError(28, "No space left on device"), "disk_full", True),
        (OSError(5, "Input/output error"), "io", True),
    ],
)
def test_whatever_breaks_the_worker_is_reported(
    request_: TrialRequest,
    board: Board,
    folder: Path,
    error: Exception,
    kind: str,
    transient: bool,
) -> None:
    def broken(_job: object) -> ChildOutcome:
        raise error

    board.runner.trial_outcome = broken
    result = run(request_, board, folder).result
    assert result.failure is not None
    assert (result.failure.stage, result.failure.kind) == ("load", kind)
    assert result.failure.transient is transient
