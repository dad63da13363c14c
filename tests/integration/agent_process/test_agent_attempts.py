"""``benchfarm-agent`` as a board runs it: a real process, a real Redis, real children."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import zstandard

from agent.contract.trial import SCHEMA, RuntimeRef
from support.running_agent import LONG, QUICK, Board


def test_an_attempt_from_the_doorbell_to_the_result(board: Board) -> None:
    board.start()
    board.attempt("a1")
    result = board.controller.result_of("a1")
    assert (result.status, result.failure) == ("ok", None)
    assert result.fidelity is not None
    assert result.fidelity.passed
    assert result.samples is not None
    packed = board.controller.blobs[result.samples.sha256]
    raw = zstandard.ZstdDecompressor().decompress(packed)
    samples = np.frombuffer(raw, "<i8").reshape(len(result.samples.series), -1)
    assert samples.shape[1] == result.samples.count >= QUICK.min_samples
    assert (samples > 0).all()
    phases = result.phases
    assert phases.process_s is not None
    assert phases.total_s is not None
    assert phases.measure_s is not None
    assert phases.measure_s < phases.process_s < phases.total_s
    assert phases.fetch_s is not None

    fp16 = RuntimeRef("onnxruntime", precision="fp16")
    for number, cached in (("a2", False), ("a3", True)):
        board.attempt(number, runtime=fp16)
        again = board.controller.result_of(number)
        assert (again.status, again.convert_cached) == ("ok", cached), again.failure
        assert (again.phases.convert_s == 0.0) is cached
    assert any(beat.attempt_id == "a1" for beat in board.controller.beats)
    facts = board.controller.facts
    assert facts is not None
    assert "onnxruntime" in {r.backend for r in facts.runtimes if not r.missing}
    assert list((board.home / "attempts").iterdir()) == []
    board.controller.wait_for(lambda: not list((board.home / "samples").iterdir()))
    assert board.stop() == 0


def test_a_doubled_doorbell_starts_nothing(board: Board) -> None:
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    board.ring("a1")
    board.controller.cancelled.add("a1")
    board.controller.result_of("a1")
    board.ring("a1")
    board.attempt("a2")
    board.controller.result_of("a2")
    assert board.controller.started == ["a1", "a2"]
    assert board.controller.deliveries == ["a1", "a2"]


def test_attempts_that_are_not_ours_or_superseded_are_dropped(board: Board) -> None:
    board.start()
    board.controller.superseded.add("old")
    board.ring("unknown")
    board.ring("old")
    board.attempt("a1")
    board.controller.result_of("a1")
    assert board.controller.started == ["unknown", "old", "a1"]
    assert board.controller.deliveries == ["a1"]


@pytest.mark.parametrize(
    ("what", "kind", "transient"),
    [
        ("cancelled", "cancelled", False),
        ("lost", "lease_lost", True),
        ("silent", "lease_lost", True),
    ],
)
def test_a_running_child_is_ended(board: Board, what: str, kind: str, transient: bool) -> None:
    if what == "silent":
        board.controller.lease_s = 2.0
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    assert board.children()
    affected: set[str] = getattr(board.controller, what)
    affected.add("beat" if what == "silent" else "a1")
    result = board.controller.result_of("a1", within_s=20)
    assert result.status == "cancelled"
    assert result.failure is not None
    assert (result.failure.stage, result.failure.kind) == ("measure", kind)
    assert result.failure.transient is transient
    assert board.children() == []


def test_a_second_doorbell_of_a_running_attempt_has_the_controller_asked_at_once(
    board: Board,
) -> None:
    """Cancelling does not wait for the next heartbeat, however far away that is."""
    board.controller.heartbeat_s = 3600.0
    board.controller.lease_s = 7200.0
    board.start()
    board.controller.wait_for(lambda: board.controller.facts)
    for number in range(3):  # one of another attempt is not in the way, and not answered either
        board.attempt(f"a{number}", LONG)
        board.measuring(f"a{number}")
        board.controller.cancelled.add(f"a{number}")
        board.ring(f"a{number}")
        assert board.controller.result_of(f"a{number}").status == "cancelled"
        assert board.children() == []
    assert board.controller.started == ["a0", "a1", "a2"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_the_child_and_reports_it_at_once(board: Board, number: int) -> None:
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    assert board.stop(number) == 0
    result = board.controller.results["a1"]
    assert result.status == "cancelled"
    assert result.failure is not None
    assert (result.failure.kind, result.failure.transient) == ("shutdown", True)
    assert board.children() == []


def test_a_stop_right_after_the_start(board: Board) -> None:
    board.start()
    assert board.stop() == 0
    assert board.children() == []


def test_kill_9_leaves_no_child_and_is_reported_by_the_next_agent(board: Board) -> None:
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    board.stop(signal.SIGKILL)
    assert board.children()
    board.start()
    result = board.controller.result_of("a1")
    assert result.failure is not None
    assert (result.status, result.failure.kind) == ("failed", "agent_died")
    assert (result.failure.stage, result.failure.transient) == ("measure", True)
    board.attempt("a2")
    assert board.controller.result_of("a2").status == "ok"
    assert board.children() == []
    assert board.controller.started == ["a1", "a2"]


def test_a_result_outlives_the_agent_that_made_it(board: Board) -> None:
    board.start()
    board.controller.silent.add("result")
    board.attempt("a1")
    board.controller.wait_for(lambda: "not delivered" in board.log)
    board.stop(signal.SIGKILL)
    board.controller.silent.clear()
    board.start()
    assert board.controller.result_of("a1").status == "ok"
    assert board.controller.deliveries == ["a1"]


def test_a_request_of_a_newer_contract_is_answered_with_a_failure(board: Board) -> None:
    board.start()
    board.attempt("a1", schema=SCHEMA + 1)
    result = board.controller.result_of("a1")
    assert result.failure is not None
    assert (result.status, result.failure.kind) == ("failed", "schema")


def test_two_agents_do_not_share_a_board(board: Board) -> None:
    board.start()
    board.controller.wait_for(lambda: (board.home / "agent.lock").exists())
    second = board.command("run")
    assert second.returncode == 2
    assert "another agent runs" in second.stderr
    assert "Traceback" not in second.stderr
