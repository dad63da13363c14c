"""Jobs side by side: their number, their order, a failure that ends alone, and Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from orchestrator.provisioning.parallel import JobInterrupted, JobOutcome, run_parallel

Tell = Callable[[str], None]
LIMIT_S = 20.0


def quiet(name: str, said: object) -> None:
    """Nobody listens."""


def test_every_job_ends_and_one_that_fails_ends_alone() -> None:
    def job(name: str, tell: Tell) -> str:
        tell(f"{name} begins")
        if name == "b":
            raise OSError("no power")
        return name.upper()

    heard: list[tuple[str, object]] = []
    names = ("a", "b", "c")
    jobs = {name: partial(job, name) for name in names}
    ended = run_parallel(jobs, 2, lambda name, said: heard.append((name, said)))
    assert list(ended) == ["a", "b", "c"]
    assert (ended["a"].value, ended["c"].value) == ("A", "C")
    assert str(ended["b"].error) == "no power"
    assert not ended["b"].stopped
    for name in names:
        assert [said for other, said in heard if other == name] == [f"{name} begins", ended[name]]


def test_as_many_as_said_work_at_a_time() -> None:
    both = threading.Barrier(2, timeout=LIMIT_S)
    lock, now, most = threading.Lock(), 0, 0

    def job(tell: Tell) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        both.wait()  # ends only where two are here together
        with lock:
            now -= 1

    ended = run_parallel(dict.fromkeys("abcd", job), 2, quiet)
    assert [e.error for e in ended.values()] == [None] * 4
    assert most == 2


class CtrlC:
    """A terminal in which Ctrl-C is pressed ``times`` when a job says ``now``."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.on_stop = threading.Event()

    def on_report(self, name: str, said: str | JobOutcome[str]) -> None:
        if said == "now":
            self.times -= 1
            raise KeyboardInterrupt

    def on_tick(self) -> None:
        if self.on_stop.is_set() and self.times:
            raise KeyboardInterrupt


def test_ctrl_c_lets_a_step_end_and_begins_no_other_job() -> None:
    terminal = CtrlC()
    steps: list[str] = []

    def job(tell: Tell) -> str:
        tell("now")
        assert terminal.on_stop.wait(LIMIT_S)
        steps.append("ended")
        tell("the next one")
        steps.append("never")
        return ""

    ended = run_parallel(
        {"a": job, "b": job}, 1, terminal.on_report, terminal.on_tick, terminal.on_stop.set
    )
    assert steps == ["ended"]
    assert all(e.stopped for e in ended.values())
    assert str(ended["b"].error) == "not begun"


def test_what_fails_because_of_ctrl_c_counts_as_stopped() -> None:
    """A child process is in the terminal's group, and is ended by the same key."""
    terminal = CtrlC()

    def job(tell: Tell) -> str:
        tell("now")
        assert terminal.on_stop.wait(LIMIT_S)
        raise OSError("pip was killed")

    ended = run_parallel({"a": job}, 1, terminal.on_report, on_stop=terminal.on_stop.set)
    assert isinstance(ended["a"].error, JobInterrupted)
    assert "pip was killed" in str(ended["a"].error)


def test_a_second_ctrl_c_leaves_at_once() -> None:
    terminal, for_ever = CtrlC(times=2), threading.Event()

    def job(tell: Tell) -> str:
        tell("now")
        for_ever.wait(LIMIT_S)
        return ""

    with pytest.raises(KeyboardInterrupt):
        run_parallel({"a": job}, 1, terminal.on_report, terminal.on_tick, terminal.on_stop.set)
    assert terminal.on_stop.is_set()
    for_ever.set()
