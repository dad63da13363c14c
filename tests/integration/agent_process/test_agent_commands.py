"""The commands that a board's owner gives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from agent.worker.config import load, save
from support.controllers import JOIN_TOKEN
from support.running_agent import Board


def test_the_doctor(board: Board) -> None:
    done = board.command("doctor", "-o", "json")
    findings = {f["check"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert set(findings) == {
        "joined", "controller", "clock", "token", "broker", "disk", "runtimes", "bounds"
    }  # fmt: skip
    config = load(board.home)
    save(replace(config, token="wrong", broker_url="redis://127.0.0.1:1/0"))
    done = board.command("doctor", "-o", "json")
    failed = {f["check"] for f in json.loads(done.stdout) if not f["ok"]}
    assert (done.returncode, failed) == (1, {"token", "broker"})


def test_the_commands_refuse_wrong_input_in_one_line(board: Board, tmp_path: Path) -> None:
    other = replace(board, home=tmp_path / "other")
    for words, code, says in (
        (["run"], 2, "benchfarm-agent join"),
        (["join", "farm", JOIN_TOKEN], 2, "http://HOST:PORT"),
        (["join", board.controller.url, JOIN_TOKEN, "--name", "a b"], 2, "device name"),
        (["join", board.controller.url, "wrong", "--name", "b"], 2, "spent"),
        (["join", "http://127.0.0.1:1", JOIN_TOKEN], 1, "no answer from the controller"),
        (["runtimes", "add", "onnxruntime", "--python", "/nowhere"], 2, "/nowhere"),
        (["runtimes", "remove", "x"], 2, "no environment 'x'"),
    ):
        done = other.command(*words)
        assert (done.returncode, done.stdout) == (code, ""), words
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
