"""Whose fault a failure is, for every kind that a board may send."""

from __future__ import annotations

import inspect

import pytest

from agent.contract import failures
from agent.contract.trial import Failure
from orchestrator.domain.failure_cause import Fault, exit_code, whose
from orchestrator.domain.health import DEVICE_FAULTS

OF_RUNNER = {
    "internal": Fault.HARNESS,
    "runtime_missing": Fault.HARNESS,
    "unsupported": Fault.INPUT,
    "unsupported_operator": Fault.INPUT,
    "unsupported_shape": Fault.INPUT,
    "unsupported_precision": Fault.INPUT,
    "unsupported_target": Fault.INPUT,
    "unsupported_format": Fault.INPUT,
    "unsupported_scenario": Fault.INPUT,
    "bad_shape": Fault.INPUT,
    "other_network": Fault.INPUT,
    "bad_option": Fault.INPUT,
    "bad_request": Fault.HARNESS,
    "bad_model": Fault.INPUT,
    "bad_data": Fault.INPUT,
    "calibration_missing": Fault.INPUT,
    "conversion_failed": Fault.INPUT,
    "bad_output": Fault.INPUT,
    "off_reference": Fault.INPUT,
    "clock": Fault.DEVICE,
}
"""Written out: a new kind must be meant to be somebody's."""


def test_every_kind_of_the_runners_errors_is_somebodys() -> None:
    kinds = {
        found.kind
        for _, found in inspect.getmembers(failures, inspect.isclass)
        if issubclass(found, failures.RunnerError)
    }
    assert kinds == set(OF_RUNNER)
    assert {k: whose(Failure("load", k, "m")) for k in kinds} == OF_RUNNER


@pytest.mark.parametrize(
    ("stage", "kind", "fault"),
    [
        ("measure", "crash", "device"),
        ("load", "out_of_memory", "device"),
        ("convert", "timeout", "device"),
        ("measure", "io", "device"),
        ("fetch", "io", "harness"),
        ("environment", "io", "harness"),
        ("environment", "crash", "harness"),
        ("fetch", "disk_full", "device"),
        ("environment", "agent_died", "device"),
        ("environment", "schema", "harness"),
        ("environment", "contract", "harness"),
        ("fetch", "blob_missing", "harness"),
        ("fetch", "blob_corrupt", "harness"),
        ("fetch", "bad_model", "input"),
        ("measure", "bad_answer", "harness"),
        ("measure", "shutdown", "harness"),
        ("measure", "something_new", "harness"),
    ],
)
def test_what_the_agent_says(stage: str, kind: str, fault: str) -> None:
    assert whose(Failure(stage, kind, "m")) == fault


def test_what_has_a_board_checked_is_never_the_inputs() -> None:
    for kind in DEVICE_FAULTS:
        assert whose(Failure("measure", kind, "m")) is not Fault.INPUT


@pytest.mark.parametrize(
    ("faults", "code"),
    [(["input"], 2), (["input", "device"], 1), (["device"], 1), (["harness"], 1), ([], 1)],
)
def test_only_what_is_all_the_users_is_told_as_such(faults: list[str], code: int) -> None:
    assert exit_code(faults) == code
