"""The consumer's thread outlives every restart, also one that comes while the broker is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from agent import broker
from agent.worker.broker.consumer import QueueConsumer
from orchestrator.broker.redis_publisher import DoorbellPublisher
from support.need import need
from support.servers import free_port, redis_program, redis_server

DEVICE = "board-1"


@pytest.fixture
def program() -> str:
    found = redis_program()
    need("redis", found is not None, "no redis-server on the path")
    assert found is not None
    return found


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def consumer(port: int, heard: list[str]) -> Iterator[QueueConsumer]:
    """One whose broker is not there yet."""
    made = QueueConsumer(f"redis://127.0.0.1:{port}/0", DEVICE, on_doorbell=heard.append)
    made.start()
    yield made
    assert made.stop(60)
    made.app.close()


def test_a_restart_while_the_broker_is_away_ends_no_thread(
    program: str,
    port: int,
    consumer: QueueConsumer,
    heard: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits, ended = Seen("broker not reachable"), Seen("the consumer ended")

    def warn(text: str, *_: object) -> None:
        waits(text)
        ended(text)

    monkeypatch.setattr(logging.getLogger("agent.worker.broker.consumer"), "warning", warn)
    for _ in range(2):
        waits.event.clear()
        ended.event.clear()
        assert waits.event.wait(60)
        consumer.restart()
        assert ended.event.wait(60)
    assert consumer._thread.is_alive()
    with redis_server(program, port=port) as url:
        assert consumer.wait_ready(60)
        app = broker.make_app(url, "test", "")
        broker.ring(app, DEVICE, "a1")
        app.close()
        deadline = time.monotonic() + 60
        while heard != ["a1"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert consumer.stop(60)


def test_a_bell_rings_on_after_the_broker_was_restarted(
    program: str, port: int, consumer: QueueConsumer, heard: list[str]
) -> None:
    with redis_server(program, port=port) as url:
        app = broker.make_app(url, "test", "")
        publisher = DoorbellPublisher(app)
        assert consumer.wait_ready(60)
        publisher(DEVICE, "a1")
        wait_for(heard, ["a1"])
    with pytest.raises(broker.BrokerDown, match=DEVICE):
        publisher(DEVICE, "a2")
    with redis_server(program, port=port):
        publisher(DEVICE, "a3")
        wait_for(heard, ["a1", "a3"])
        assert consumer.stop(60)
    app.close()


def wait_for(heard: list[str], wanted: list[str]) -> None:
    deadline = time.monotonic() + 60
    while heard != wanted:
        assert time.monotonic() < deadline, heard
        time.sleep(0.05)


class Seen:
    """Set once a line of the log begins so."""

    def __init__(self, begins: str) -> None:
        self._begins = begins
        self.event = threading.Event()

    def __call__(self, text: str) -> None:
        if text.startswith(self._begins):
            self.event.set()
