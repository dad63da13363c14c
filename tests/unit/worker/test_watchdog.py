"""The watchdog: only a round trip through the broker counts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import broker
from agent.worker.broker.consumer import ROUND_TRIP_PREFIX, QueueConsumer
from agent.worker.broker.watchdog import Watchdog, notify


def until(what: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class CountingConsumer(QueueConsumer):
    """A consumer of an in-memory queue that counts what the watchdog does with it."""

    def __init__(self, device: str, received: list[str]) -> None:
        super().__init__("memory://", device, on_doorbell=received.append)
        self.rings = 0
        self.restarted = threading.Event()

    def round_trip(self, timeout_s: float) -> bool:
        self.rings += 1
        return super().round_trip(timeout_s)

    def restart(self) -> None:
        self.restarted.set()
        super().restart()


class Setting:
    """A watchdog over an in-memory queue of its own."""

    def __init__(self, device: str, *, idle: bool = True) -> None:
        self.device = device
        self.received: list[str] = []
        self.consumer = CountingConsumer(device, self.received)
        self.watchdog = Watchdog(self.consumer, lambda: idle, period_s=0.05, answer_s=0.5)

    def end(self) -> None:
        self.watchdog.stop()
        assert self.consumer.stop(20)
        if self.watchdog.is_alive():
            self.watchdog.join(10)


def test_a_listening_agent_hears_itself() -> None:
    setting = Setting("hears")
    setting.consumer.start()
    assert setting.consumer.wait_ready(20)
    setting.watchdog.start()
    until(lambda: setting.watchdog.round_trips >= 2)
    assert setting.received == []
    setting.end()


def test_a_consumer_that_hears_nothing_is_started_anew() -> None:
    setting = Setting("deaf")
    setting.watchdog.start()
    assert setting.consumer.restarted.wait(20)
    assert setting.watchdog.round_trips == 0
    setting.end()


def test_nothing_is_rung_beside_a_measurement() -> None:
    setting = Setting("busy", idle=False)
    setting.consumer.start()
    setting.watchdog.start()
    time.sleep(0.5)
    assert setting.consumer.rings == 0
    assert not setting.consumer.restarted.is_set()
    setting.end()


def test_only_the_doorbell_of_this_round_trip_ends_it() -> None:
    setting = Setting("others")
    setting.consumer.start()
    assert setting.consumer.wait_ready(20)
    setting.consumer._handle(f"{ROUND_TRIP_PREFIX}of-another-time")
    assert not setting.consumer._round_trip_done.is_set()
    broker.ring(setting.consumer.app, setting.device, "a1")
    until(lambda: setting.received == ["a1"])
    assert not setting.consumer._round_trip_done.is_set()
    assert setting.consumer.round_trip(20)
    assert setting.received == ["a1"]
    setting.end()


def test_a_stop_ends_a_round_trip() -> None:
    setting = Setting("stops")
    ended = threading.Event()

    def wait() -> None:
        setting.consumer.round_trip(600)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    until(lambda: setting.consumer._round_trip_id)
    assert setting.consumer.stop(20)
    assert ended.wait(20)


def test_a_worker_ends_and_listens_again() -> None:
    setting = Setting("again")
    setting.consumer.start()
    assert setting.consumer.wait_ready(20)
    QueueConsumer.restart(setting.consumer)
    until(lambda: not setting.consumer.wait_ready(0))
    assert setting.consumer.wait_ready(20)
    setting.end()


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("WATCHDOG=1")
        assert systemd.recv(100) == b"WATCHDOG=1"
    notify("nobody listens")
