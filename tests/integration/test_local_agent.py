"""The local agent's process: started again when it dies, ended with the block."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from orchestrator.local import agent_process
from orchestrator.local.agent_process import supervised_agent

SLEEPS = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


def started(home: Path) -> list[int]:
    log = home / "agent.log"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_agent_is_started_again_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent_process, "FIRST_PAUSE_S", 0.01)
    with supervised_agent(tmp_path, [sys.executable, "-c", SLEEPS]):
        wait_for(lambda: len(started(tmp_path)) == 1)
        psutil.Process(started(tmp_path)[0]).kill()
        wait_for(lambda: len(started(tmp_path)) == 2)
        assert psutil.pid_exists(started(tmp_path)[1])
    assert not any(psutil.pid_exists(pid) for pid in started(tmp_path))
    assert "the local agent ended (signal 9)" in caplog.text
    assert str(tmp_path / "agent.log") in caplog.text


def test_one_that_ignores_the_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_process, "STOP_S", 0.2)
    with supervised_agent(tmp_path, [sys.executable, "-c", STUBBORN]):
        wait_for(lambda: len(started(tmp_path)) == 1)
    assert not psutil.pid_exists(started(tmp_path)[0])


@pytest.mark.timeout(60)
def test_an_end_during_the_pause_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent_process, "FIRST_PAUSE_S", 3600.0)
    with supervised_agent(tmp_path, [sys.executable, "-c", "print(1)"]):
        wait_for(lambda: "the local agent ended" in caplog.text)
