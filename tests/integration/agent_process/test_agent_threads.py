"""Agents in threads of another process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent import broker
from agent.worker import config
from agent.worker.agent import Agent
from support.running_agent import DEVICE, LONG, joined


@pytest.mark.parametrize("transport", ["memory", "redis"])
def test_an_agent_in_a_thread(
    tmp_path: Path, transport: str, request: pytest.FixtureRequest
) -> None:
    url = "memory://" if transport == "memory" else request.getfixturevalue("redis_url")
    with joined(tmp_path, url) as board:
        for attempt_id in ("a1", "a2"):  # started twice: nothing of the first may be left
            agent = Agent(config.load(board.home))
            agent.start()
            assert agent.wait_ready(60)
            board.attempt(f"{transport}-{attempt_id}")
            assert board.controller.result_of(f"{transport}-{attempt_id}").status == "ok"
            assert agent.stop()
        agent = Agent(config.load(board.home))
        agent.start()
        assert agent.wait_ready(60)
        board.attempt(f"{transport}-long", LONG)
        board.measuring(f"{transport}-long")
        assert agent.stop()
        failure = board.controller.results[f"{transport}-long"].failure
        assert failure is not None
        assert failure.kind == "shutdown"


def test_two_agents_in_one_process(tmp_path: Path, redis_url: str) -> None:
    with (
        joined(tmp_path / "one", redis_url) as one,
        joined(tmp_path / "two", redis_url) as two,
    ):
        two_config = replace(config.load(two.home), device="board-2")
        agents = [Agent(config.load(one.home)), Agent(two_config)]
        for agent in agents:
            agent.start()
        for agent in agents:
            assert agent.wait_ready(60)
        one.controller.requests["a1"] = replace(one.request, attempt_id="a1")
        two.controller.requests["a2"] = replace(two.request, attempt_id="a2")
        app = broker.make_app(redis_url, "test", "")
        broker.ring(app, DEVICE, "a1")
        broker.ring(app, "board-2", "a2")
        assert one.controller.result_of("a1").status == "ok"
        assert two.controller.result_of("a2").status == "ok"
        assert agents[0].stop()
        two.controller.requests["a3"] = replace(two.request, attempt_id="a3")
        broker.ring(app, "board-2", "a3")
        assert two.controller.result_of("a3").status == "ok"
        assert agents[1].stop()
