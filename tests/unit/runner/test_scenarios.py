"""Scenarios stand once: a file in the runner's folder is a kind that specs accept."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from typing import get_args

import pytest

from agent.contract import codec
from agent.contract.scenarios import SCENARIO_KINDS
from agent.contract.trial import Phases, Scenario
from agent.runner.scenarios import find_loop
from agent.runner.scenarios.single_stream import measure as single_stream
from orchestrator.domain.spec import ScenarioChoice


def test_a_spec_accepts_exactly_the_kinds_that_have_a_loop() -> None:
    accepted = get_args(ScenarioChoice.model_fields["kind"].annotation)
    assert accepted == SCENARIO_KINDS
    assert accepted[0] == "single_stream"  # the default
    assert {"single_stream", "offline"} <= set(accepted)
    assert [find_loop(Scenario(kind=kind)) for kind in accepted]


@pytest.mark.parametrize("kind", SCENARIO_KINDS)
def test_every_loop_takes_the_same_arguments_and_says_what_it_measures(kind: str) -> None:
    module = importlib.import_module(f"agent.runner.scenarios.{kind}")
    assert inspect.signature(module.measure) == inspect.signature(single_stream)
    assert module.__doc__


def test_the_kinds_are_known_without_importing_a_loop_or_numpy() -> None:
    code = (
        "import sys; from agent.contract.scenarios import SCENARIO_KINDS;"
        "print([m for m in sys.modules if m == 'numpy' or m.startswith('agent.runner')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_messages_of_the_previous_release_are_still_read() -> None:
    """Their senders write every field, those that nobody uses too."""
    old = {"kind": "offline", "target_qps": 0.0, "latency_bound_ms": 0.0, "concurrency": 1}
    assert codec.loads(Scenario, json.dumps(old)) == Scenario(kind="offline")
    assert codec.loads(Phases, '{"preprocess_ms": null}') == Phases()
