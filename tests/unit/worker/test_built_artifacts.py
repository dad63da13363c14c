"""Attempts that build for other devices, and attempts on what was built there."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract.child_jobs import Converted, ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.trial import DatasetRef, RuntimeRef, TensorSpec, TrialRequest
from agent.formats import archive
from agent.worker.attempts.attempt import FinishedAttempt, execute
from agent.worker.isolation.child_process import CancelRequest
from agent.worker.isolation.runner_client import ChildOutcome
from support import played_board
from support.played_board import ENDED, MODEL, QUANTISER, Board, make_board, make_request, sha

DATASET = b"a data set"
OWN = (TensorSpec("own", "float32", (1, 4), "NHWC"),)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = make_board(tmp_path)
    made.served[sha(DATASET)] = DATASET
    return made


@pytest.fixture
def request_() -> TrialRequest:
    return replace(
        make_request(),
        runtime=RuntimeRef("", precision="int8", format="ort", via=("quantiser",)),
        dataset=DatasetRef("d", sha(DATASET), len(DATASET), 1, 1),
        calibration="dataset",
        build=("ort", "int8"),
    )


def run(request: TrialRequest, board: Board, folder: Path) -> FinishedAttempt:
    folder.mkdir(exist_ok=True)
    with CancelRequest() as cancel:
        return execute(request, board.services, cancel, folder, started_at=99.0)


def test_a_build_converts_and_hands_in_and_measures_nothing(
    request_: TrialRequest, board: Board, tmp_path: Path
) -> None:
    finished = run(request_, board, tmp_path / "a")
    result = finished.result
    assert (result.status, result.failure, result.samples) == ("ok", None, None)
    assert board.runner.trials == []
    [job] = board.runner.converts
    assert [edge.converter for edge in job.way] == ["quantiser"]
    assert (job.calibration, job.runtime.backend) == ("dataset", ""), "the child checks it itself"
    assert result.built is not None
    assert finished.blob is not None
    assert finished.blob.read_bytes() == MODEL + b" converted"
    assert finished.blob.stem == sha(MODEL + b" converted") == result.built.sha256
    assert (result.built.format, result.built.precision, result.built.entry) == ("ort", "int8", "")
    assert result.built.steps == ("tool 1.0, not checked: nothing on this device loads it",)
    assert (result.phases.convert_s, result.phases.total_s) == (1.5, 1.0)


def several(job: ConvertJob) -> ChildOutcome:
    folder = Path(job.folder) / "step1"
    folder.mkdir()
    (folder / "model.xml").write_bytes(b"graph")
    (folder / "model.bin").write_bytes(b"weights")
    converted = Converted(
        str(folder / "model.xml"), "ort", 12, ("tool 1.0",), 1.0, inputs=OWN, outputs=OWN
    )
    return ChildOutcome(ENDED, answer=converted)


def test_several_files_go_as_one_and_are_loaded_on_the_other_side(
    request_: TrialRequest, board: Board, tmp_path: Path
) -> None:
    board.runner.convert_outcome = several
    built = run(request_, board, tmp_path / "a").result.built
    again = run(replace(request_, attempt_id="a2"), board, tmp_path / "b")
    assert built == again.result.built, "the archive is the same each time"
    assert again.result.convert_cached
    assert built is not None
    assert again.blob is not None
    assert (built.entry, built.inputs) == ("model.xml", OWN)

    content = again.blob.read_bytes()
    (tmp_path / "there").mkdir()
    there = make_board(tmp_path / "there")
    there.served[built.sha256] = content
    wanted = on_built(built.sha256, built.size_bytes, built.entry)
    finished = run(wanted, there, tmp_path / "c")
    assert finished.result.status == "ok", finished.result.failure
    assert there.runner.converts == []
    [(_, job, _)] = there.runner.trials
    assert job.own_inputs == OWN
    assert (job.artifact_format, job.artifact_size_bytes) == ("ort", len(b"graph" + b"weights"))
    artifact = Path(job.artifact)
    assert {p.name: p.read_bytes() for p in artifact.parent.iterdir()} == {
        "model.xml": b"graph",
        "model.bin": b"weights",
    }
    assert finished.result.conversion == ("tool 1.0, on builder x",)


def on_built(sha256: str, size_bytes: int, entry: str) -> TrialRequest:
    request = make_request()
    model = replace(
        request.model,
        format="ort",
        precision="int8",
        sha256=sha256,
        size_bytes=size_bytes,
        entry=entry,
        own_inputs=OWN,
        own_outputs=OWN,
        made=("tool 1.0, on builder x",),
    )
    return replace(request, model=model, runtime=RuntimeRef("onnxruntime", precision="int8"))


def test_an_archive_that_is_none_ends_the_attempt(board: Board, tmp_path: Path) -> None:
    board.served[sha(b"no zip")] = b"no zip"
    result = run(on_built(sha(b"no zip"), 6, "model.xml"), board, tmp_path / "a").result
    assert result.failure is not None
    assert (result.failure.stage, result.failure.kind) == ("fetch", "bad_model")
    assert "not a whole .zip" in result.failure.message


def test_a_link_among_what_was_made_ends_the_build(
    request_: TrialRequest, board: Board, tmp_path: Path
) -> None:
    def linked(job: ConvertJob) -> ChildOutcome:
        outcome = several(job)
        (Path(job.folder) / "step1" / "source").symlink_to(job.source)
        return outcome

    board.runner.convert_outcome = linked
    finished = run(request_, board, tmp_path / "a")
    assert finished.result.failure is not None
    assert finished.result.failure.kind == "bad_artifact"
    assert finished.blob is None
    assert list(board.services.samples_dir.iterdir()) == [], "nothing half-made stays"


def test_an_artifact_that_is_the_source_is_handed_in_alone(
    request_: TrialRequest, board: Board, tmp_path: Path
) -> None:
    """Beside it lie the other blobs of this device."""

    def unchanged(job: ConvertJob) -> ChildOutcome:
        return ChildOutcome(ENDED, answer=Converted(job.source, "ort", len(MODEL)))

    board.runner.convert_outcome = unchanged
    finished = run(request_, board, tmp_path / "a")
    assert finished.result.built is not None
    assert finished.result.built.sha256 == hashlib.sha256(MODEL).hexdigest()


def test_what_only_the_device_itself_may_make_is_refused(
    request_: TrialRequest, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_specific = replace(QUANTISER, where=("device",))
    monkeypatch.setattr(played_board, "QUANTISER", machine_specific)
    result = run(request_, board, tmp_path / "a").result
    assert result.failure is not None
    assert (result.status, result.failure.kind) == ("unsupported", "unsupported_format")
    assert "no converter leads from onnx in fp32 to ort in int8" in result.failure.message


def test_a_build_through_a_tool_that_is_missing_says_which(
    request_: TrialRequest, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(played_board, "QUANTISER", replace(QUANTISER, missing=("nncf",)))
    result = run(request_, board, tmp_path / "a").result
    assert result.failure is not None
    assert (result.status, result.failure.kind) == ("failed", "runtime_missing")
    assert "quantiser needs nncf" in result.failure.message


def test_an_option_that_no_converter_reads_is_refused(
    request_: TrialRequest, board: Board, tmp_path: Path
) -> None:
    runtime = replace(request_.runtime, options={"graph": "all"})
    result = run(replace(request_, runtime=runtime), board, tmp_path / "a").result
    assert result.failure is not None
    assert result.failure.message == "what leads there has no option 'graph' here; it has none"


def test_a_folder_is_packed_whole(request_: TrialRequest, board: Board, tmp_path: Path) -> None:
    def folder(job: ConvertJob) -> ChildOutcome:
        made = Path(job.folder) / "step1" / "saved_model"
        made.mkdir(parents=True)
        (made / "saved_model.pb").write_bytes(b"graph")
        (made.parent / "log").write_bytes(b"not of it")
        return ChildOutcome(ENDED, answer=Converted(str(made), "ort", 5))

    board.runner.convert_outcome = folder
    finished = run(request_, board, tmp_path / "a")
    assert finished.result.built is not None
    assert finished.blob is not None
    assert finished.result.built.entry == archive.WHOLE
    unpacked = archive.unpack(finished.blob, tmp_path / "out", archive.WHOLE)
    assert [p.name for p in unpacked.iterdir()] == ["saved_model.pb"]


def test_the_way_is_the_one_that_was_asked_for(
    request_: TrialRequest, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dear = replace(QUANTISER, edges=(Edge("quantiser", ("onnx", "fp32"), ("ort", "int8"), 9.0),))
    cheap = replace(
        QUANTISER, name="cheap", edges=(Edge("cheap", ("onnx", "fp32"), ("ort", "int8")),)
    )
    monkeypatch.setattr(played_board, "QUANTISER", dear)
    monkeypatch.setattr(played_board, "TOOL", cheap)
    run(request_, board, tmp_path / "a")
    assert [e.converter for e in board.runner.converts[0].way] == ["quantiser"]
