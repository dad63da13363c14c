"""Power cuts while a sweep runs on a board: each costs the running attempt and no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from farm.board import Board
from orchestrator.client import Client
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.store.tables import Attempt, Sweep, Trial
from support import onnx_files
from support.cli import Shell

Find = Callable[[str], Board]

TRIALS = 8
CUTS = 2
SPEC = f"""
name: power
models: [dense]
devices: {{names: [kept]}}
runtimes: [{{backend: onnxruntime}}]
trials: {TRIALS}
attempts: 9
scenario: {{min_duration_s: 0.5, max_duration_s: 1.0}}
"""
PATIENCE_S = 240.0


def wait_for(what: Callable[[], bool], meaning: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, f"waited in vain for {meaning}"
        time.sleep(0.1)


def test_a_power_cut_costs_the_attempt_in_flight_and_nothing_else(
    shell: Shell, joined: Board, board: Find, tmp_path: Path
) -> None:
    model = tmp_path / "dense.onnx"
    model.write_bytes(onnx_files.dense_bytes())
    shell.fine("model", "add", model, "--name", "dense")
    with Client.from_home(Settings(home=shell.home)) as client:
        client.submit(SPEC, "power.yaml")
        for cut in range(1, CUTS + 1):

            def is_running(done: int = cut) -> bool:
                sweep = client.sweep("power")
                assert sweep.state == "running", f"it ended before power cut {done}"
                return sweep.counts.get("done", 0) >= done and sweep.counts.get("running", 0) > 0

            wait_for(is_running, f"a trial that runs as power cut {cut} comes")
            joined.cut_power()
            board(joined.name)
        wait_for(lambda: client.sweep("power").state != "running", "the end of the sweep")
        assert client.sweep("power").counts == {"done": TRIALS}
    _each_counts_once(shell.home)
    shell.fine("db", "check", "--deep", "--grace", "0s")
    assert joined.inside("ls /var/lib/benchfarm/attempts /var/lib/benchfarm/samples").split() == [
        "/var/lib/benchfarm/attempts:",
        "/var/lib/benchfarm/samples:",
    ]


def _each_counts_once(home: Path) -> None:
    database = Database(f"sqlite:///{home / 'benchfarm.sqlite3'}")
    with database.read_session() as session:
        query = select(Trial).join(Sweep, Trial.sweep_id == Sweep.id)
        trials = session.scalars(query.where(Sweep.name == "power")).all()
        mine = [t.id for t in trials]
        attempts = session.scalars(select(Attempt).where(Attempt.trial_id.in_(mine))).all()
    database.close()
    counted = [a for a in attempts if a.accepted]
    assert sorted(a.trial_id for a in counted) == sorted(mine)
    assert {a.trial_id: a.number for a in counted} == {t.id: t.attempt for t in trials}
    lost = [a for a in attempts if not a.accepted]
    assert len(lost) >= CUTS
    for attempt in lost:  # the agent reports it when it restarts, or its lease runs out
        failure = (attempt.result or {}).get("failure") or {}
        assert failure.get("kind") == "agent_died" or "lease ran out" in attempt.note
