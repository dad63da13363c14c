"""The outbox: durable, bounded, and patient."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.worker.uplink.outbox import LONGEST_WAIT_S, Outbox


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.sqlite", keep=3, clock=clock)
    yield box
    box.close()


def test_a_result_is_due_until_it_is_delivered(outbox: Outbox, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    assert outbox.put("a1", "{}", samples)
    pending = outbox.due()
    assert pending is not None
    assert (pending.attempt_id, pending.result, pending.samples_path) == ("a1", "{}", samples)
    assert outbox.samples_in_use() == {samples}
    outbox.delivered("a1", "accepted")
    assert outbox.due() is None
    assert outbox.next_due_in_s() is None
    assert outbox.samples_in_use() == set()
    assert outbox.outcome("a1") == "accepted"


def test_only_the_first_result_of_an_attempt_counts(outbox: Outbox) -> None:
    assert outbox.put("a1", "first", None)
    assert not outbox.put("a1", "second", None)
    pending = outbox.due()
    assert pending is not None
    assert pending.result == "first"


def test_results_leave_in_the_order_they_came(outbox: Outbox, clock: Clock) -> None:
    for name in ("b", "c", "a"):
        clock.now += 1
        outbox.put(name, "{}", None)
    left = []
    while (pending := outbox.due()) is not None:
        left.append(pending.attempt_id)
        outbox.delivered(pending.attempt_id, "accepted")
    assert left == ["b", "c", "a"]


def test_waits_double_and_another_result_is_not_held_up(outbox: Outbox, clock: Clock) -> None:
    outbox.put("a1", "{}", None)
    clock.now += 1
    outbox.put("a2", "{}", None)
    waits = [outbox.postpone("a1") for _ in range(9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    pending = outbox.due()
    assert pending is not None
    assert pending.attempt_id == "a2"
    outbox.delivered("a2", "accepted")
    assert outbox.due() is None
    assert outbox.next_due_in_s() == LONGEST_WAIT_S
    clock.now += LONGEST_WAIT_S
    assert outbox.due() is not None


def test_a_clock_put_back_does_not_strand_a_result(outbox: Outbox, clock: Clock) -> None:
    outbox.put("a1", "{}", None)
    outbox.postpone("a1")
    clock.now -= 1_000_000
    assert outbox.due() is not None


def test_after_a_restart_everything_is_due_at_once(tmp_path: Path, clock: Clock) -> None:
    box = Outbox(tmp_path / "o", clock=clock)
    box.put("a1", "{}", None)
    for _ in range(8):
        box.postpone("a1")
    box.close()
    again = Outbox(tmp_path / "o", clock=clock)
    assert again.due() is not None
    again.close()


def test_delivered_ones_are_forgotten_first_and_undelivered_ones_never(
    outbox: Outbox, clock: Clock
) -> None:
    outbox.put("stuck", "{}", None)
    for number in range(10):
        clock.now += 1
        outbox.put(f"a{number}", "{}", None)
        outbox.delivered(f"a{number}", "accepted")
    assert [n for n in range(10) if outbox.knows(f"a{n}")] == [7, 8, 9]
    assert outbox.knows("stuck")
    assert outbox.waiting() == 1


def test_a_clock_put_back_does_not_make_the_newest_the_oldest(outbox: Outbox, clock: Clock) -> None:
    for number in range(5):
        clock.now -= 1_000
        outbox.put(f"a{number}", "{}", None)
        outbox.delivered(f"a{number}", "accepted")
    assert [n for n in range(5) if outbox.knows(f"a{n}")] == [2, 3, 4]


def test_every_commit_is_flushed(tmp_path: Path, outbox: Outbox) -> None:
    with sqlite3.connect(tmp_path / "outbox.sqlite") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    assert outbox._database.execute("PRAGMA synchronous").fetchone() == (2,)


WRITER = """
import sys
from pathlib import Path
from agent.worker.uplink.outbox import Outbox
box = Outbox(Path(sys.argv[1]))
number = 0
while True:
    box.put("a%d" % number, "x" * 2000, None)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("after", [1, 7, 40])
def test_kill_9_loses_nothing_that_was_put(tmp_path: Path, after: int) -> None:
    path = tmp_path / "outbox.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(after):
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = [int(line) for line in writer.stdout.read().split()]
    box = Outbox(path)
    expected = max([last, *told])
    assert all(box.knows(f"a{number}") for number in range(expected + 1))
    assert box.waiting() in (expected + 1, expected + 2)
    box.close()
