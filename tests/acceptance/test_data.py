"""A farm's data as a user handles it: backup, restore, check, prune, delete, events."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from support.cli import BENCHFARM, Shell, running

SPEC = """
name: {name}
models: [digits_cnn]
runtimes: [{{backend: onnxruntime, threads: 1}}, {{backend: openvino, threads: 1}}]
trials: 2
scenario: {{min_duration_s: {seconds}, max_duration_s: {seconds}}}
"""
NO_AGENT: tuple[str, ...] = ()


def spec(folder: Path, name: str, seconds: float) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SPEC.format(name=name, seconds=seconds))
    return path


def elsewhere(home: Path, **settings: str) -> Shell:
    """The same command line with another home."""
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCHFARM_")}
    return Shell(home, {**environment, "BENCHFARM_HOME": str(home), "COLUMNS": "160", **settings})


@pytest.fixture
def postgres_farm(postgres_url: str) -> str:
    """An empty database of its own."""
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS moved"))
        connection.execute(text("CREATE DATABASE moved"))
    engine.dispose()
    return postgres_url.replace("/postgres?", "/moved?")


@pytest.mark.timeout(600)
def test_a_farm_is_saved_while_it_runs_and_goes_on_elsewhere(
    tmp_path: Path, postgres_farm: str
) -> None:
    archive = tmp_path / "farm.backup"
    with running(tmp_path / "home") as shell:
        shell.fine("zoo", "build", "digits_cnn")
        shell.fine("sweep", "run", spec(tmp_path, "first", 0.3))
        shell.fine("sweep", "run", spec(tmp_path, "long", 3), "--detach")
        said = shell.fine("db", "backup", archive)
        assert "wrote" in said
        assert "is there already" in shell.refused("db", "backup", archive)
        assert "nothing is wrong" in shell.fine("db", "check", "--deep")
        report = shell.fine("report", "first", "-o", "json")
        shell.fine("sweep", "cancel", "long")

    copy = elsewhere(tmp_path / "copy")
    assert "there is no farm here" in copy.refused("db", "check")
    assert "restored" in copy.fine("db", "restore", archive)
    assert "nothing is wrong" in copy.fine("db", "check", "--deep")
    assert "not empty" in copy.refused("db", "restore", archive)
    with running(tmp_path / "copy", NO_AGENT) as there:
        assert there.fine("report", "first", "-o", "json") == report
        assert "another controller runs" in there.refused("db", "restore", archive, "--force")
        listed = {s["name"]: s for s in json.loads(there.fine("sweep", "list", "-o", "json"))}
        assert listed["long"]["state"] == "running"

    moved = elsewhere(tmp_path / "moved", BENCHFARM_DATABASE_URL=postgres_farm)
    moved.fine("db", "restore", archive)
    with running(tmp_path / "moved", NO_AGENT, BENCHFARM_DATABASE_URL=postgres_farm) as there:
        assert there.fine("report", "first", "-o", "json") == report


def test_bad_backups_and_wrong_words_are_one_message(shell: Shell, tmp_path: Path) -> None:
    copy = elsewhere(tmp_path / "copy")
    bad = tmp_path / "bad"
    bad.write_bytes(b"not a backup")
    assert "nothing was changed" in copy.refused("db", "restore", bad)
    assert "there is no such file" in copy.refused("db", "restore", tmp_path / "none")
    assert list((tmp_path / "copy" / "blobs").iterdir()) == []
    assert "expected a number and" in shell.refused("db", "prune", "--samples-older-than", "soon")
    assert "nothing is to be pruned: say" in shell.refused("db", "prune")
    assert "--grace 9x: expected" in shell.refused("db", "check", "--grace", "9x")
    assert "there is no sweep 'none'" in shell.refused("sweep", "delete", "none", "--yes")
    assert "one object a line" in shell.refused("events", "-f", "-o", "csv")


def test_pruned_and_deleted_sweeps_and_who_did_it(shell: Shell, tmp_path: Path) -> None:
    shell.fine("sweep", "run", spec(tmp_path, "old", 0.3))
    shell.fine("sweep", "run", spec(tmp_path, "unwanted", 0.3))
    before = json.loads(shell.fine("report", "old", "-o", "json"))
    with sqlite3.connect(shell.home / "benchfarm.sqlite3") as database:
        database.execute(
            "UPDATE sweeps SET finished_at = '2020-01-01 00:00:00.000000' WHERE name = 'old'"
        )
    database.close()
    due = shell.fine("db", "prune", "--samples-older-than", "90d")
    assert "would prune the raw samples of sweep old" in due
    assert "nothing was changed" in due
    assert json.loads(shell.fine("report", "old", "-o", "json")) == before
    assert "4 blobs freed" in shell.fine("db", "prune", "--samples-older-than", "90d", "--yes")
    after = json.loads(shell.fine("report", "old", "-o", "json"))
    assert after["rows"] == before["rows"]
    assert "raw samples were pruned" in after["notes"][-1]
    for form in ("html", "markdown"):
        assert "raw samples were pruned" in shell.fine("report", "old", "-o", form)

    assert "give --yes" in shell.refused("sweep", "delete", "unwanted")
    assert "4 blobs freed" in shell.fine("sweep", "delete", "unwanted", "--yes")
    shell.refused("report", "unwanted")
    assert "nothing is wrong" in shell.fine("db", "check", "--deep", "--grace", "0s")

    events = json.loads(shell.fine("events", "--subject", "unwanted", "-o", "json"))
    assert "trial_ended" in {e["kind"] for e in events}, "what the sweep caused"
    own = [e for e in events if e["kind"].startswith("sweep_")]
    assert [e["kind"] for e in own] == ["sweep_submitted", "sweep_finished", "sweep_deleted"]
    by = [e["by"] for e in own]
    assert by[0].startswith("admin benchfarm up (token ")
    assert by[1] == "device bench"
    (pruned,) = json.loads(shell.fine("events", "--kind", "samples_pruned", "-o", "json"))
    assert pruned["by"].startswith("command line (")
    assert len(json.loads(shell.fine("events", "-n", "2", "-o", "json"))) == 2
    assert json.loads(shell.fine("events", "--since", "1d", "--subject", "x", "-o", "json")) == []


def test_events_are_followed(shell: Shell) -> None:
    shell.fine("device", "tag", "bench", "turn=before")
    command = [str(BENCHFARM), "events", "-f", "-n", "1", "--kind", "device_tagged", "-o", "json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=shell.environment, stdout=pipe, stderr=pipe, text=True
    ) as follower:
        try:
            assert follower.stdout is not None
            first = json.loads(follower.stdout.readline())
            assert first["data"]["tags"] == {"turn": "before"}
            shell.fine("device", "tag", "bench", "turn=after")
            event = json.loads(follower.stdout.readline())
            assert (event["kind"], event["subject"]) == ("device_tagged", "bench")
            assert event["data"]["tags"] == {"turn": "after"}
        finally:
            follower.send_signal(signal.SIGINT)
            assert follower.wait(timeout=30) == 0
