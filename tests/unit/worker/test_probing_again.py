"""A probe that broke when the agent started costs a board its runtimes until the next look only."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.contract import codec
from agent.contract.child_jobs import Probed
from agent.contract.device import DeviceFacts
from agent.worker.capability_probe import LONGEST_ASK_S, LOOK_S, CapabilityProbe
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
def told(monkeypatch: pytest.MonkeyPatch) -> list[DeviceFacts]:
    """What the controller was told of the board."""
    found: list[DeviceFacts] = []

    def tell(self: CapabilityProbe, known: DeviceFacts) -> bool:
        found.append(known)
        return True

    monkeypatch.setattr(CapabilityProbe, "_told", tell)
    return found


@pytest.fixture
def lookout(tmp_path: Path) -> CapabilityProbe:
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
        listen=lambda: pytest.fail("it listens already"),
        quiet=threading.Lock(),
        stopping=threading.Event(),
    )


def test_a_look_asks_the_broken_probe_again(
    lookout: CapabilityProbe, told: list[DeviceFacts], tmp_path: Path
) -> None:
    seen = lookout._environments.stamp()
    (tmp_path / "broken").unlink()
    lookout._look(seen)
    assert [[r.backend for r in known.runtimes] for known in told] == [["onnxruntime"]]
    lookout._look(seen)
    assert len(told) == 1  # nothing is silent any more


def test_what_stays_broken_is_asked_less_and_less_often(
    lookout: CapabilityProbe, told: list[DeviceFacts]
) -> None:
    seen = lookout._environments.stamp()
    lookout._look(seen)
    lookout._look(seen)  # a moment later
    assert len(told) == 1
    waits = []
    for _ in range(9):
        waits.append(lookout._ask_s)
        lookout._ask_at = 0.0
        lookout._look(seen)
    assert waits[:3] == [2 * LOOK_S, 4 * LOOK_S, 8 * LOOK_S]
    assert waits[-1] == LONGEST_ASK_S


def test_nothing_is_asked_beside_an_attempt(
    lookout: CapabilityProbe, told: list[DeviceFacts], tmp_path: Path
) -> None:
    (tmp_path / "broken").unlink()
    with lookout._quiet:
        lookout._look(lookout._environments.stamp())
    assert told == []
