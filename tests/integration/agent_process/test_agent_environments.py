"""Runtime environments that come and go beside a running agent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.worker.capability_probe import CHECK_PERIOD_S
from support.running_agent import LONG, Board, end_attempt


def test_an_environment_of_its_own(board: Board, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "venv",
            "--without-pip",
            "--system-site-packages",
            tmp_path / "venv",
        ],
        check=True,
    )
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "outer.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    done = board.command("runtimes", "add", "onnxruntime", "--python", str(python))
    assert done.returncode == 0, done.stderr
    name = done.stdout.split(":")[0]
    board.start()
    board.attempt("a1")
    assert board.controller.result_of("a1").environment == name
    listed = json.loads(board.command("runtimes", "list", "-o", "json").stdout)
    found = [r["facts"] for r in listed if r["facts"]["backend"] == "onnxruntime"]
    assert [f["environment"] for f in found] == [name]
    assert board.command("runtimes", "remove", name).returncode == 0


def another_python(folder: Path) -> str:
    """An interpreter by another path, as an environment has."""
    path = folder / "another-python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def told(board: Board) -> set[str]:
    """The environments of onnxruntime that the controller has heard of."""
    facts = board.controller.facts
    runtimes = facts.runtimes if facts else ()
    return {r.environment for r in runtimes if r.backend == "onnxruntime" and not r.missing}


def listening(board: Board) -> None:
    board.start()
    board.controller.wait_for(lambda: told(board) == {"default"}, 120)


def add_another(board: Board) -> str:
    done = board.command("runtimes", "add", "onnxruntime", "--python", another_python(board.home))
    assert done.returncode == 0, done.stderr
    return done.stdout.split(":")[0]


def test_environments_are_told_of_without_a_restart(board: Board) -> None:
    listening(board)
    name = add_another(board)
    board.controller.wait_for(lambda: told(board) == {name}, 120)
    board.attempt("a1")
    assert board.controller.result_of("a1").environment == name
    assert board.command("runtimes", "remove", name).returncode == 0
    board.controller.wait_for(lambda: told(board) == {"default"}, 120)
    board.attempt("a2")
    assert board.controller.result_of("a2").environment == "default"
    (board.home / "environments.json").write_text("{")
    board.controller.wait_for(lambda: "kept as environments.json.damaged-1" in board.log)
    board.attempt("a3")
    assert board.controller.result_of("a3").environment == "default"
    assert board.stop() == 0


@pytest.mark.parametrize("text", ["", '[{"name": 1, "backend": 2, "version": 3, "python": 4}]'])
def test_a_board_with_a_damaged_list_of_environments_listens_all_the_same(
    board: Board, text: str
) -> None:
    board.home.mkdir(parents=True, exist_ok=True)
    (board.home / "environments.json").write_text(text)
    listening(board)
    assert "kept as environments.json.damaged-1" in board.log
    board.attempt("a1")
    assert board.controller.result_of("a1").environment == "default"
    assert board.stop() == 0


def test_nothing_is_probed_beside_a_measurement(board: Board) -> None:
    listening(board)
    board.attempt("a1", LONG)
    board.measuring("a1")
    before = board.children()
    name = add_another(board)
    watched_until = time.monotonic() + 2.5 * CHECK_PERIOD_S
    while time.monotonic() < watched_until:
        assert board.children() == before  # the measured child and its like, no probe
        time.sleep(0.1)
    assert told(board) == {"default"}
    end_attempt(board, "a1")
    board.controller.wait_for(lambda: told(board) == {name}, 120)


def test_an_environment_is_removed_between_attempts_only(board: Board) -> None:
    listening(board)
    name = add_another(board)
    board.controller.wait_for(lambda: told(board) == {name}, 120)
    board.attempt("a1", LONG)
    board.measuring("a1")
    words = ["runtimes", "remove", name, "--state-dir", str(board.home)]
    removing = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", *words], stderr=subprocess.PIPE, text=True
    )
    assert removing.stderr is not None
    assert "waiting for the end of the attempt" in removing.stderr.readline()
    assert name in (board.home / "environments.json").read_text()
    assert removing.poll() is None
    end_attempt(board, "a1")
    _, said = removing.communicate(timeout=60)
    assert removing.returncode == 0, said
    assert name not in (board.home / "environments.json").read_text()

    name = add_another(board)
    board.attempt("a2", LONG)
    board.measuring("a2")
    forced = board.command("runtimes", "remove", name, "--force")
    assert (forced.returncode, forced.stderr) == (0, "")
    assert name not in (board.home / "environments.json").read_text()
    end_attempt(board, "a2")
