"""A probe that broke when the agent started costs a board its runtimes until the next look only."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import codec
from agent.device_facts import DeviceFacts
from agent.jobs import Probed
from agent.worker.service import LONGEST_ASK_S, LOOK_S, Agent
from agent.worker.settings import AgentConfig
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

    def tell(self: Agent, known: DeviceFacts) -> bool:
        found.append(known)
        return True

    monkeypatch.setattr(Agent, "_told", tell)
    return found


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """One whose first probe is killed."""
    runner = tmp_path / "__main__.py"
    runner.write_text(RUNNER)
    facts = tuple(f for f in runtime_facts() if f.backend == "onnxruntime")
    (tmp_path / "answer.json").write_text(codec.dumps(Probed(facts)))
    (tmp_path / "broken").touch()
    config = AgentConfig("http://controller.invalid", "board", "", "memory://", tmp_path / "state")
    made = Agent(config, runner=runner)
    assert made.environments.probe_all() == ()
    return made


def test_a_look_asks_the_broken_probe_again(
    agent: Agent, told: list[DeviceFacts], tmp_path: Path
) -> None:
    seen = agent._environments_stamp()
    (tmp_path / "broken").unlink()
    agent._look(seen)
    assert [[r.backend for r in known.runtimes] for known in told] == [["onnxruntime"]]
    agent._look(seen)
    assert len(told) == 1  # nothing is silent any more


def test_what_stays_broken_is_asked_less_and_less_often(
    agent: Agent, told: list[DeviceFacts]
) -> None:
    seen = agent._environments_stamp()
    agent._look(seen)
    agent._look(seen)  # a moment later
    assert len(told) == 1
    waits = []
    for _ in range(9):
        waits.append(agent._ask_s)
        agent._ask_at = 0.0
        agent._look(seen)
    assert waits[:3] == [2 * LOOK_S, 4 * LOOK_S, 8 * LOOK_S]
    assert waits[-1] == LONGEST_ASK_S


def test_nothing_is_asked_beside_an_attempt(
    agent: Agent, told: list[DeviceFacts], tmp_path: Path
) -> None:
    (tmp_path / "broken").unlink()
    with agent._quiet:
        agent._look(agent._environments_stamp())
    assert told == []
