"""What a heartbeat says of its board."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import cast

import pytest

from agent.contract.api_messages import Heartbeat, HeartbeatAnswer
from agent.telemetry.thermal import hottest_c
from agent.worker.uplink.heartbeat import BoardStatus, HeartbeatSender, read_board_status
from agent.worker.uplink.http_client import Uplink


class FakeUplink:
    """An uplink that records heartbeats."""

    def __init__(self) -> None:
        self.beats: list[Heartbeat] = []
        self.twice = threading.Event()

    def heartbeat(self, _device: str, beat: Heartbeat, *, timeout_s: float) -> HeartbeatAnswer:
        self.beats.append(beat)
        if len(self.beats) == 2:
            self.twice.set()
        return HeartbeatAnswer(False, False, 0.1, 30.0)


def test_each_beat_carries_the_clock_and_the_read_board_status_its_moment() -> None:
    uplink, readings = (
        FakeUplink(),
        iter([BoardStatus(100.0, 40.0), *[BoardStatus(None, 41.0)] * 1000]),
    )
    before = time.time_ns()
    heartbeat = HeartbeatSender(cast(Uplink, uplink), "pi", 0.1, read_status=lambda: next(readings))
    heartbeat.start()
    try:
        assert uplink.twice.wait(60)
    finally:
        heartbeat.stop()
        heartbeat.join(60)
    first, second = uplink.beats[:2]
    assert (first.storage_free_mib, first.temperature_c) == (100.0, 40.0)
    assert (second.storage_free_mib, second.temperature_c) == (None, 41.0)
    assert before <= first.at_unix_ns < second.at_unix_ns <= time.time_ns()


def test_free_space_is_that_of_the_state_folder(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free / (1 << 20)
    assert read_board_status(tmp_path).storage_free_mib == pytest.approx(free, rel=0.2)


def test_a_disk_that_does_not_answer_does_not_stop_heartbeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_path: object) -> None:
        raise OSError("I/O error")

    monkeypatch.setattr(shutil, "disk_usage", broken)
    assert read_board_status(tmp_path).storage_free_mib is None


def test_the_hottest_zone_counts(tmp_path: Path) -> None:
    for name, text in (("0", "41000\n"), ("1", "63500\n"), ("2", "broken"), ("3", "-5000\n")):
        zone = tmp_path / "sys/class/thermal" / f"thermal_zone{name}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)
    assert hottest_c(tmp_path) == 63.5
    assert hottest_c(tmp_path / "none") is None
