"""A broker that takes connections and then says nothing: devices are answered all the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent.contract import codec
from agent.contract.api_messages import Heartbeat, HeartbeatAnswer
from orchestrator import wiring
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps import sweeps
from orchestrator.settings import Settings
from support.farms import AGENT_VERSION, Clock, DoorbellRecorder, FarmKit, spec_text
from support.servers import free_port

BOARDS = 12
"""More than a controller has threads that answer devices."""
LIMIT_S = 60


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Each doorbell hangs until the test is over; set once one was tried."""
    tried, over = threading.Event(), threading.Event()
    real = wiring.build_farm

    def ring(_device: str, _attempt_id: str) -> None:
        tried.set()
        over.wait()

    def build_farm(*given: object) -> FarmContext:
        return replace(real(*given), publish_doorbell=ring)  # type: ignore[arg-type]

    monkeypatch.setattr(wiring, "build_farm", build_farm)
    yield tried
    over.set()


def test_heartbeats_are_answered_and_leases_renewed(
    tmp_path: Path, hanging: threading.Event
) -> None:
    settings = Settings(
        home=tmp_path / "home",
        port=free_port(),
        broker_url="memory://",
        health_every_s=0,
        tick_s=3600,  # it is the boards that ask for work
    )
    with wiring.controller(settings) as running:
        kit = FarmKit(running.farm, Clock(), DoorbellRecorder())
        kit.add_model()
        tokens = {f"board{n}": kit.enrol(f"board{n}").token for n in range(BOARDS)}
        sweeps.submit(running.farm, spec_text(), "sweep.yaml")

        def beat(name: str, attempt_id: str = "") -> HeartbeatAnswer:
            answer = httpx.put(
                f"{running.url}/api/v1/devices/{name}/heartbeat",
                content=codec.dumps(Heartbeat(AGENT_VERSION, attempt_id)),
                headers={"Authorization": f"Bearer {tokens[name]}"},
                timeout=LIMIT_S,
            )
            answer.raise_for_status()
            return codec.loads(HeartbeatAnswer, answer.content)

        with ThreadPoolExecutor(BOARDS) as pool:
            assert len(list(pool.map(beat, tokens))) == BOARDS
        assert hanging.wait(LIMIT_S)
        attempts = kit.attempts()
        assert len(attempts) == BOARDS
        names = {kit.device_id(name): name for name in tokens}
        for attempt in attempts:
            assert beat(names[attempt.device_id], attempt.id).renewed
