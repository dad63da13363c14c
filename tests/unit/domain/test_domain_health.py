"""Verdicts and what follows from them, without a farm."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.trial import Failure
from orchestrator.domain import health
from orchestrator.domain.device_class import HealthPolicy
from orchestrator.domain.health import (
    CheckConfiguration,
    CheckReading,
    CheckVerdict,
    Health,
    HealthState,
    judge,
    usual_skew_s,
)
from support.farms import device_facts

POLICY = HealthPolicy(max_temperature_c=85, min_free_mib=100, max_latency_ms=50)
RIGHT = CheckReading(outputs_right=True, latency_ms=1.0)
HISTORY = (1.0, 1.1, 0.9)
GOOD, FAILED = CheckVerdict(True), CheckVerdict(False, ("hot",))


def test_a_board_that_is_right_is_good() -> None:
    reading = replace(RIGHT, temperature_c=85.0, storage_free_mib=100.0, clock_skew_s=-30.0)
    assert judge(POLICY, reading, HISTORY) == CheckVerdict(True)


def test_where_most_boards_are_off_it_is_the_controllers_clock() -> None:
    usual = usual_skew_s([3600.0, 3599.0, 3601.0, 0.0])
    off = replace(RIGHT, clock_skew_s=3598.0, usual_skew_s=usual)
    assert judge(POLICY, off, HISTORY) == CheckVerdict(True)
    assert judge(POLICY, replace(off, clock_skew_s=0.0), HISTORY) == CheckVerdict(True)
    assert "3660 s ahead of" in judge(POLICY, replace(off, clock_skew_s=3660.0), HISTORY).reasons[0]
    assert usual_skew_s([3600.0, 3600.0]) == 0.0, "of two, either may be wrong"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"outputs_right": False}, "outputs are wrong"),
        ({"outputs_right": None}, "outputs are wrong"),
        ({"temperature_c": 86.0}, "86 °C, over 85 °C"),
        ({"storage_free_mib": 99.0}, "99 MiB are free on its disk, under 100 MiB"),
        ({"clock_skew_s": 31.0}, "31 s ahead of"),
        ({"clock_skew_s": -31.0}, "31 s behind"),
        ({"latency_ms": 2.3}, "against 1 ms in its good checks"),
        ({"latency_ms": 51.0}, "limit of 50 ms"),
        ({"status": "failed", "failure": Failure("load", "crash", "SIGSEGV")}, "load: crash: SIG"),
        ({"status": "failed", "lost": True}, "fell silent"),
    ],
)
def test_each_thing_that_is_wrong_is_named(changed: dict[str, object], reason: str) -> None:
    verdict = judge(POLICY, replace(RIGHT, **changed), HISTORY)  # type: ignore[arg-type]
    assert verdict.ok is False
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]


def test_all_that_is_wrong_is_said_at_once() -> None:
    reading = CheckReading(outputs_right=False, temperature_c=99.0, storage_free_mib=1.0)
    assert len(judge(POLICY, reading, ()).reasons) == 3


def test_an_agent_that_was_stopped_says_nothing_and_a_missing_way_neither() -> None:
    stopped = judge(POLICY, CheckReading(status="cancelled"), ())
    assert (stopped.ok, stopped.again) == (None, True)
    failure = Failure("convert", "unsupported_operator", "Conv")
    unable = judge(POLICY, CheckReading(status="unsupported", failure=failure), ())
    assert (unable.ok, unable.again) == (None, False)
    assert "no runtime" in unable.reasons[0]


def test_a_history_counts_once_it_is_one() -> None:
    slow = replace(RIGHT, latency_ms=40.0)
    assert judge(POLICY, slow, (1.0, 1.0)).ok
    assert judge(POLICY, slow, (1.0, 1.0, 1.0)).ok is False


def test_a_board_that_always_scattered_may_scatter() -> None:
    assert health.band_ms([1.0, 1.0, 1.0, 1.0]) == pytest.approx(2.0)
    assert health.band_ms([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(3.0 + 8 * 1.0)


@given(
    st.lists(st.floats(0.5, 1.0), min_size=3, max_size=40),
    st.floats(0.0, 1.0),
)
def test_nothing_within_twice_the_usual_is_ever_slow(past: list[float], latency: float) -> None:
    assert judge(POLICY, replace(RIGHT, latency_ms=latency), past).ok


def test_two_in_a_row_quarantine_and_one_good_restores() -> None:
    once = HealthState(Health.GOOD).after(FAILED)
    assert once == HealthState(Health.GOOD, 1)
    assert once.after(GOOD) == HealthState(Health.GOOD)
    twice = once.after(FAILED)
    assert twice == HealthState(Health.BAD, 2)
    assert twice.after(FAILED) == HealthState(Health.BAD, 3)
    assert twice.after(GOOD) == HealthState(Health.GOOD)


def test_the_first_good_check_makes_it_good_and_one_bad_leaves_it_unknown() -> None:
    assert HealthState().after(GOOD) == HealthState(Health.GOOD)
    assert HealthState().after(FAILED) == HealthState(Health.UNKNOWN, 1)


def test_a_check_without_a_verdict_changes_nothing_but_what_was_good() -> None:
    nothing, again = CheckVerdict(None, ("no runtime",)), CheckVerdict(None, again=True)
    assert HealthState(Health.GOOD).after(nothing).health is Health.UNKNOWN
    for before in (HealthState(Health.BAD, 2), HealthState(), HealthState(Health.MAINTENANCE)):
        assert before.after(nothing) == before
    assert HealthState(Health.GOOD, 1).after(again) == HealthState(Health.GOOD, 1)


def test_maintenance_comes_and_goes_by_wish_alone() -> None:
    wished = HealthState(Health.BAD, 2).maintained(True)
    assert wished.health is Health.MAINTENANCE
    assert wished.after(GOOD).health is Health.MAINTENANCE
    assert wished.after(FAILED).after(FAILED).health is Health.MAINTENANCE
    assert wished.maintained(False) == HealthState()
    assert HealthState(Health.BAD, 2).maintained(False) == HealthState(Health.BAD, 2)


@pytest.mark.parametrize("kind", ["crash", "timeout", "out_of_memory", "agent_died", "io"])
def test_what_may_be_the_boards_fault(kind: str) -> None:
    assert health.may_be_the_board(Failure("measure", kind, "x"))


@pytest.mark.parametrize("kind", ["unsupported_operator", "bad_output", "bad_model", "cancelled"])
def test_what_is_not(kind: str) -> None:
    assert not health.may_be_the_board(Failure("measure", kind, "x"))
    assert not health.may_be_the_board(None)


def runtime(name: str, form: str, precision: str = "fp32", missing: str = "") -> RuntimeFacts:
    return RuntimeFacts(
        name, "1.0", "builtin", (TargetFacts("int8-only", ("int8",)), TargetFacts("X", ("fp32",))),
        (form,), missing, wants={precision: ((form, precision),)},
    )  # fmt: skip


def test_the_first_runtime_that_takes_a_file_as_it_is() -> None:
    runtimes = (
        runtime("gone", "onnx", missing="no"),
        runtime("other", "ncnn"),
        runtime("edge", "tflite", "int8"),
        runtime("lite", "tflite"),
        runtime("ort", "onnx"),
    )
    found = device_facts(runtimes=runtimes)
    first = CheckConfiguration("lite", "1.0", "X", "tflite")
    assert health.choose(HealthPolicy(), found) == first
    assert health.choose(HealthPolicy(backend="ort"), found) == CheckConfiguration(
        "ort", "1.0", "X", "onnx"
    )
    assert health.choose(HealthPolicy(backend="gone"), found) == first


def test_a_runtime_behind_a_converter_serves_where_no_other_does() -> None:
    relaxed = runtime("openvino", "openvino_ir")
    half = replace(relaxed, wants={"fp32": (("openvino_ir", "fp16"),)})
    assert health.choose(HealthPolicy(), device_facts(runtimes=(half,))) == CheckConfiguration(
        "openvino", "1.0", "X", "onnx"
    )
    assert health.choose(HealthPolicy(), device_facts(runtimes=(relaxed,))) is None
    assert health.choose(HealthPolicy(), device_facts(runtimes=())) is None
