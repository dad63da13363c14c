"""A probe that broke when the agent started costs a board its runtimes until the next look only."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.contract import codec
from agent.contract.child_jobs import Probed
from agent.contract.device import DeviceFacts
from agent.worker.capability_probe import CHECK_PERIOD_S, LONGEST_RETRY_S, CapabilityProbe
from agent.worker.environments.environments import Environments
from agent.worker.isolation.runner_client import RunnerClient
from agent.worker.uplink.http_client import Uplink
from support.farms import runtime_facts

RUNNER = """
import os, pathlib, signal
here = pathlib.Path(__file__).parent
broken = here / "broken"
if broken.exists():
    os.kill(os.getpid(), signal.SIGKILL)
print((here / "answer.json").read_text())
"""


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[DeviceFacts]:
    """Facts that the probe sends to the controller."""
    found: list[DeviceFacts] = []

    def tell(self: CapabilityProbe, known: DeviceFacts) -> bool:
        found.append(known)
        return True

    monkeypatch.setattr(CapabilityProbe, "_report", tell)
    return found


@pytest.fixture
def probe(tmp_path: Path) -> CapabilityProbe:
    """One whose first probe is killed."""
    runner = tmp_path / "__main__.py"
    runner.write_text(RUNNER)
    facts = tuple(f for f in runtime_facts() if f.backend == "onnxruntime")
    (tmp_path / "answer.json").write_text(codec.dumps(Probed(facts)))
    (tmp_path / "broken").touch()
    state = tmp_path / "state"
    environments = Environments(state, RunnerClient("test", runner).probe)
    assert environments.probe_all() == ()
    return CapabilityProbe(
        "board",
        state,
        environments,
        Uplink("http://controller.invalid"),
        on_probed=lambda: pytest.fail("it listens already"),
        board_lock=threading.Lock(),
        stopping=threading.Event(),
    )


def test_a_look_asks_the_broken_probe_again(
    probe: CapabilityProbe, reported: list[DeviceFacts], tmp_path: Path
) -> None:
    seen = probe._environments.stamp()
    (tmp_path / "broken").unlink()
    probe._check(seen)
    assert [[r.backend for r in known.runtimes] for known in reported] == [["onnxruntime"]]
    probe._check(seen)
    assert len(reported) == 1  # nothing is silent any more


def test_what_stays_broken_is_asked_less_and_less_often(
    probe: CapabilityProbe, reported: list[DeviceFacts]
) -> None:
    seen = probe._environments.stamp()
    probe._check(seen)
    probe._check(seen)  # a moment later
    assert len(reported) == 1
    waits = []
    for _ in range(9):
        waits.append(probe._retry_s)
        probe._retry_at = 0.0
        probe._check(seen)
    assert waits[:3] == [2 * CHECK_PERIOD_S, 4 * CHECK_PERIOD_S, 8 * CHECK_PERIOD_S]
    assert waits[-1] == LONGEST_RETRY_S


def test_nothing_is_asked_beside_an_attempt(
    probe: CapabilityProbe, reported: list[DeviceFacts], tmp_path: Path
) -> None:
    (tmp_path / "broken").unlink()
    with probe._board_lock:
        probe._check(probe._environments.stamp())
    assert reported == []
