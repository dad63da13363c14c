"""``device logs|doctor|watch|drain|retire|upgrade`` with the agent beside the controller."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from support.cli import BENCHFARM, Shell, running

LONG = """
name: {name}
models: [digits_cnn]
runtimes: [{{backend: onnxruntime}}]
trials: {trials}
scenario: {{min_duration_s: 2, max_duration_s: 3}}
"""


def submit(shell: Shell, folder: Path, name: str, trials: int) -> None:
    spec = folder / f"{name}.yaml"
    spec.write_text(LONG.format(name=name, trials=trials))
    shell.fine("sweep", "run", spec, "--detach")


def test_the_log_of_the_agent_beside_the_controller(shell: Shell) -> None:
    whole = (shell.home / "agent" / "agent.log").read_text()
    assert whole
    shown = shell.fine("device", "logs", "bench", "-n", "1")
    assert shown
    assert shown in whole
    assert shell.fine("device", "logs", "bench", "--since", "2d") != ""
    assert "expected a number" in shell.refused("device", "logs", "bench", "--since", "soon")
    assert "no device 'far'" in shell.refused("device", "logs", "far")
    with subprocess.Popen(
        [str(BENCHFARM), "device", "logs", "bench", "-f"],
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=30) == 130
        assert following.stderr.read() == b""


def test_doctor_checks_the_agent_beside_the_controller(shell: Shell) -> None:
    found = json.loads(shell.fine("device", "doctor", "bench", "-o", "json"))
    assert all(f["ok"] for f in found), found
    assert {"heartbeat", "version", "token", "broker", "runtimes"} <= {f["check"] for f in found}
    assert "what to do" in shell.fine("device", "doctor", "bench")


def test_a_board_by_token_is_judged_by_what_is_known(shell: Shell) -> None:
    shell.fine("device", "join-token", "token-board")
    ended = shell("device", "doctor", "token-board")
    assert ended.returncode == 1
    assert "joined by a token" in ended.stderr
    assert "offline" in ended.stdout
    assert "journalctl" in shell.refused("device", "logs", "token-board")
    ended = shell("device", "upgrade", "token-board")
    assert ended.returncode == 1
    assert "device add token-board --ssh" in ended.stdout
    assert "with the controller" in shell.fine("device", "upgrade", "bench")
    assert "which boards?" in shell.refused("device", "upgrade")
    assert "no device matches" in shell.refused("device", "upgrade", "-l", "rack=9")
    assert "token-board is retired" in shell.fine("device", "retire", "token-board", "--forget")


def test_drain_waits_for_the_running_trial(shell: Shell, tmp_path: Path) -> None:
    submit(shell, tmp_path, "drained", 3)
    while not _bench(shell)["running"]:
        assert _bench(shell)["waiting"], "it ended before anybody saw it"
    said = shell.fine("device", "drain", "bench", "--wait")
    assert "waiting for sweep drained: " in said
    assert "bench is drained" in said
    found = _bench(shell)
    assert (found["running"], found["enabled"]) == (None, False)
    waiting = found["waiting"]
    assert waiting in (1, 2)
    said = shell.fine("device", "drain", "bench")
    assert "bench is drained: nothing runs on it" in said
    words = "1 trial waits" if waiting == 1 else "2 trials wait"
    assert f"{words} until it is enabled" in said
    said = shell.fine("device", "enable", "bench")
    assert "it is online" in said
    assert f"{words} for it" in said
    assert "3 of 3 trials ended; done" in shell.fine("sweep", "watch", "drained")


def _bench(shell: Shell) -> dict[str, object]:
    found = json.loads(shell.fine("device", "watch", "--once", "-o", "json", "-l", "name=bench"))
    assert isinstance(found[0], dict)
    return found[0]


def test_watch_prints_one_table_for_a_script(shell: Shell) -> None:
    said = shell.fine("device", "watch", "--once")
    assert "last heartbeat" in said
    assert "bench" in said
    assert "online" in said
    assert "none yet" in shell.fine("device", "watch", "--once", "-l", "name=nobody")


def test_watch_lives_until_ctrl_c(shell: Shell) -> None:
    with subprocess.Popen(
        [str(BENCHFARM), "device", "watch"],
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert b"connection" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 130
        assert watching.stderr.read() == b""


def test_retiring_asks_about_trials_that_are_left(tmp_path: Path) -> None:
    with running(tmp_path / "home") as shell:
        shell.fine("zoo", "build", "digits_cnn")
        submit(shell, tmp_path, "left", 9)
        shell.fine("device", "drain", "bench", "--wait")
        left = _bench(shell)["waiting"]
        assert isinstance(left, int)
        assert left > 1
        refusal = shell.refused("device", "retire", "bench", "--forget")
        assert f"bench has {left} trials left to run" in refusal
        assert "--yes" in refusal
        said = shell.fine("device", "retire", "bench", "--forget", "--yes")
        assert "bench is retired" in said
        assert f"{left} trials of its sweeps cancelled" in said
        (found,) = json.loads(shell.fine("device", "list", "-o", "json"))
        assert (found["connection"], found["waiting"]) == ("retired", 0)
        (sweep,) = json.loads(shell.fine("sweep", "list", "-o", "json"))
        assert sweep["state"] == "cancelled"
        assert "retired: there is nothing" in shell.refused("device", "upgrade", "bench")
