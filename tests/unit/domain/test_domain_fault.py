"""Whose fault a failure is, for every kind that a board may send."""

from __future__ import annotations

import pytest

from agent.contract.failures import FAILURE_KINDS
from agent.contract.trial import STAGES, Failure
from orchestrator.domain.failure_cause import Fault, exit_code, whose
from orchestrator.domain.health import may_be_the_board

INPUT = {
    "bad_data",
    "bad_model",
    "bad_option",
    "bad_output",
    "bad_shape",
    "calibration_missing",
    "conversion_failed",
    "off_reference",
    "other_network",
    "trtexec",
    "unsupported",
    "unsupported_format",
    "unsupported_operator",
    "unsupported_precision",
    "unsupported_scenario",
    "unsupported_shape",
    "unsupported_target",
}
HARNESS = {
    "bad_answer",
    "bad_artifact",
    "bad_request",
    "blob_corrupt",
    "blob_missing",
    "cancelled",
    "contract",
    "converter_fault",
    "environments",
    "internal",
    "runtime_missing",
    "schema",
    "shutdown",
}
DEVICE_IN_EVERY_STAGE = {
    "agent_died",
    "clock",
    "disk_full",
    "lease_lost",
    "lost",
    "out_of_memory",
}
DEVICE_ONCE_THE_MODEL_IS_TOUCHED = {"crash", "cuda", "io", "timeout"}
"""Written out: a new kind must be put into one of these by hand."""
BEFORE = ("fetch", "environment")
LATE = ("convert", "verify")
INPUT_WHERE_THE_MODEL_DECIDES_THE_LENGTH = {"timeout"}


def test_every_kind_has_its_fault_in_every_stage() -> None:
    device = DEVICE_IN_EVERY_STAGE | DEVICE_ONCE_THE_MODEL_IS_TOUCHED
    assert set(FAILURE_KINDS) == INPUT | HARNESS | device
    for stage in STAGES:
        early = stage in BEFORE
        late = INPUT_WHERE_THE_MODEL_DECIDES_THE_LENGTH if stage in LATE else set()
        found = {kind: whose(Failure(stage, kind, "m")) for kind in FAILURE_KINDS}
        assert {k for k, f in found.items() if f is Fault.INPUT} == INPUT | late
        assert {k for k, f in found.items() if f is Fault.DEVICE} == (
            DEVICE_IN_EVERY_STAGE if early else device - late
        )


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("something_new", "harness"), ("unsupported_something", "input"), ("", "harness")],
)
@pytest.mark.parametrize("stage", [*STAGES, "a stage of another release"])
def test_a_kind_of_another_release(stage: str, kind: str, fault: str) -> None:
    assert whose(Failure(stage, kind, "m")) == fault
    assert not may_be_the_board(Failure(stage, kind, "m"))


def test_the_kinds_that_have_a_board_checked() -> None:
    checked = {kind for kind in FAILURE_KINDS if may_be_the_board(Failure("fetch", kind, "m"))}
    assert checked == {
        "agent_died",
        "crash",
        "disk_full",
        "internal",
        "io",
        "lease_lost",
        "out_of_memory",
        "timeout",
    }
    assert not checked & INPUT
    assert not may_be_the_board(Failure("verify", "timeout", "the limit was too small"))


@pytest.mark.parametrize(
    ("faults", "code"),
    [(["input"], 2), (["input", "device"], 1), (["device"], 1), (["harness"], 1), ([], 1)],
)
def test_only_what_is_all_the_users_is_told_as_such(faults: list[str], code: int) -> None:
    assert exit_code(faults) == code
