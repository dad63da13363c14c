"""The watchdog: only a round trip through the broker counts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.worker.broker.consumer import QueueConsumer, make_listener
from agent.worker.broker.watchdog import PREFIX, Watchdog, notify


def until(what: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Setting:
    """A watchdog over an in-memory queue of its own."""

    def __init__(self, device: str, *, idle: bool = True) -> None:
        self.heard: list[str] = []
        self.restarted = threading.Event()
        app, self.doorbell = make_listener("memory://", device, self.hear)
        setattr(self.doorbell, "restart", self._restart)  # noqa: B010
        self.watchdog = Watchdog(
            app, device, self.doorbell, lambda: idle, period_s=0.05, answer_s=0.5
        )

    def hear(self, attempt_id: str) -> None:
        self.heard.append(attempt_id)
        self.watchdog.heard(attempt_id)

    def _restart(self) -> None:
        self.restarted.set()
        QueueConsumer.restart(self.doorbell)

    def end(self) -> None:
        self.watchdog.stop()
        if self.watchdog.is_alive():
            self.watchdog.join(10)
        assert self.doorbell.stop(20)


def test_a_listening_agent_hears_itself() -> None:
    setting = Setting("hears")
    setting.doorbell.start()
    assert setting.doorbell.wait_ready(20)
    setting.watchdog.start()
    until(lambda: setting.watchdog.round_trips >= 2)
    assert all(name.startswith(PREFIX) for name in setting.heard)
    setting.end()


def test_a_consumer_that_hears_nothing_is_started_anew() -> None:
    setting = Setting("deaf")
    setting.watchdog.start()
    assert setting.restarted.wait(20)
    assert setting.watchdog.round_trips == 0
    setting.end()


def test_nothing_is_rung_beside_a_measurement() -> None:
    setting = Setting("busy", idle=False)
    setting.doorbell.start()
    setting.watchdog.start()
    time.sleep(0.5)
    assert setting.heard == []
    assert not setting.restarted.is_set()
    setting.end()


def test_other_doorbells_are_not_its_own() -> None:
    setting = Setting("others")
    assert not setting.watchdog.heard("a1")
    assert setting.watchdog.heard(f"{PREFIX}of-another-time")
    assert setting.watchdog.round_trips == 0


def test_a_worker_ends_and_listens_again() -> None:
    setting = Setting("again")
    setting.doorbell.start()
    assert setting.doorbell.wait_ready(20)
    QueueConsumer.restart(setting.doorbell)
    until(lambda: not setting.doorbell.wait_ready(0))
    assert setting.doorbell.wait_ready(20)
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
