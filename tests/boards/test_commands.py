"""Commands for a registered board: ``logs``, ``doctor``, ``upgrade``, ``rotate``, another class, a
fleet file; over TLS with a private authority."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from farm.board import Board
from farm.farm import Farm
from support.cli import BENCHFARM, Shell

Find = Callable[[str], Board]
Ssh = Callable[[Board], tuple[str, ...]]

OLDER = """set -e
cd /opt/benchfarm
cp -a "$(readlink agent)" agents/older
sed -i 's/^__version__ = .*/__version__ = "0.0.9"/' \
    agents/older/lib/python3*/site-packages/agent/__init__.py
ln -sfn agents/older agent
systemctl restart benchfarm-agent
"""
"""A shell script that makes the agent report an older version than the controller's."""


def device(shell: Shell) -> dict[str, Any]:
    found = json.loads(shell.fine("device", "list", "-o", "json", "-l", "name=kept"))[0]
    assert isinstance(found, dict)
    return found


def wait_for(what: Callable[[], bool], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_its_log_is_read_and_followed_until_ctrl_c(shell: Shell, joined: Board) -> None:
    lines = shell.fine("device", "logs", "kept", "-n", "3").splitlines()
    assert 0 < len(lines) <= 3
    assert len(shell.fine("device", "logs", "kept", "--since", "1h")) > 0
    words = [str(BENCHFARM), "device", "logs", "kept", "-n", "1", "-f"]
    with subprocess.Popen(
        words,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline()
        assert "journalctl" in joined.inside("ps axo args")
        joined.inside("systemctl restart benchfarm-agent")
        assert following.stdout.readline(), "new lines are printed at once"
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=30) == 130
        assert b"Traceback" not in following.stderr.read()
    assert "journalctl" not in joined.inside("ps axo args")


def test_its_doctor_says_what_is_wrong_and_what_to_do(shell: Shell, joined: Board) -> None:
    wait_for(lambda: device(shell)["connection"] == "online")
    found = json.loads(shell.fine("device", "doctor", "kept", "-o", "json"))
    assert all(f["ok"] for f in found)
    assert any(f["check"] == "broker" and "rediss://" in f["text"] for f in found)
    assert {f["check"] for f in found if f["side"] == "board"} == {
        *("joined", "controller", "clock", "token", "broker", "disk", "runtimes", "bounds"),
    }
    (bounds,) = (f["text"] for f in found if f["check"] == "bounds")
    assert "control groups below" in bounds, "its unit has a delegated control group"
    assert {"ssh", "host key", "board", "unit", "disk", "clock", "heartbeat", "version"} <= {
        f["check"] for f in found if f["side"] == "controller"
    }
    joined.inside("systemctl stop benchfarm-agent; mv /var/lib/benchfarm/agent.json /root/")
    try:
        wait_for(lambda: device(shell)["connection"] == "offline")
        ended = shell("device", "doctor", "kept", "-o", "json")
        assert ended.returncode == 1
        failed = {f["check"]: f for f in json.loads(ended.stdout) if not f["ok"]}
        assert set(failed) == {"heartbeat", "unit", "joined"}
        assert "inactive" in failed["unit"]["text"]
        assert "device add kept" in failed["joined"]["remedy"]
        assert device(shell)["connection"] == "offline", "examining is no heartbeat"
    finally:
        joined.inside("mv /root/agent.json /var/lib/benchfarm/; systemctl start benchfarm-agent")


def test_an_older_agent_is_upgraded_and_enabled_as_it_was(shell: Shell, joined: Board) -> None:
    joined.inside(OLDER)
    wait_for(lambda: device(shell)["agent_version"] == "0.0.9")
    joined.fill_disk()
    ended = shell("device", "upgrade", "kept")
    joined.empty_disk()
    assert ended.returncode == 1
    assert "MiB free" in ended.stderr
    assert "kept is enabled again, as it was" in ended.stdout
    assert device(shell)["enabled"] is True

    said = shell.fine("device", "upgrade", "kept", "--dry-run")
    assert "would change (an older agent)" in said
    assert device(shell)["agent_version"] == "0.0.9"

    said = shell.fine("device", "upgrade", "-l", "class=x86-64-generic")
    assert "upgraded from 0.0.9 (older) to 0.1.0 (agent-" in said
    assert "kept is enabled again, as it was" in said
    found = device(shell)
    assert (found["enabled"], found["agent_version"]) == (True, "0.1.0")
    assert found["connection"] == "online"

    shell.fine("device", "drain", "kept")
    said = shell.fine("device", "upgrade", "--all")
    assert "nothing to upgrade" in said
    assert "changed=0" in said
    assert device(shell)["enabled"] is False
    shell.fine("device", "enable", "kept")


def test_a_fleet_file_brings_up_the_same_board(
    shell: Shell, farm: Farm, joined: Board, tmp_path: Path
) -> None:
    address = {"ssh": f"bench@{joined.address}", "identity": str(farm.key)}
    file = tmp_path / "farm.yaml"
    file.write_text(yaml.safe_dump({"devices": {"kept": {**address, "class": "x86-64-generic"}}}))
    assert "no drift" in shell.fine("inventory", "diff", file)
    joined.inside("systemctl stop benchfarm-agent; rm /var/lib/benchfarm/agent.json")
    said = shell.fine("inventory", "apply", file)  # from its join on, every step
    assert re.search(r"kept: \d+ steps, changed=[2-5]\b", said), said
    assert "changed=0" in shell.fine("inventory", "apply", file)


def test_rotated_it_joins_again(shell: Shell, joined: Board) -> None:
    said = shell.fine("device", "rotate", "kept")
    assert "--ca-file /etc/benchfarm/ca.pem" in said
    said = shell.fine("device", "add", "kept")
    assert "join                   … its token is refused, as after `device rotate`" in said


def test_the_printed_line_joins_a_board(shell: Shell, joined: Board, ca: Path) -> None:
    said = shell.fine("device", "join-token", "by-hand")
    assert f"first copy {ca}/ca.pem to /etc/benchfarm/ca.pem" in said
    (line,) = re.findall(r"^ +(benchfarm-agent join .*)$", said, re.MULTILINE)
    assert line.endswith("--ca-file /etc/benchfarm/ca.pem")
    (joined.root / "etc/benchfarm").mkdir(exist_ok=True)
    (joined.root / "etc/benchfarm/ca.pem").write_text((ca / "ca.pem").read_text())
    state = "--state-dir /root/by-hand"
    assert "joined as by-hand" in joined.inside(f"/opt/benchfarm/agent/bin/{line} {state}")
    program = "/opt/benchfarm/agent/bin/benchfarm-agent"
    found = json.loads(joined.inside(f"{program} doctor {state} -o json || true"))
    assert {f["check"]: f["ok"] for f in found}["broker"], found
    joined.inside("rm -r /root/by-hand /etc/benchfarm")
    shell.fine("device", "retire", "by-hand", "--forget")


def test_another_class_is_taken_over(shell: Shell, joined: Board) -> None:
    said = shell.fine("device", "add", "kept", "--class", "arm64-generic")
    assert "class                  changed" in said
    assert device(shell)["device_class"] == "arm64-generic"
    assert "changed=0" in shell.fine("device", "add", "kept"), "without --class the class stays"
    shell.fine("device", "add", "kept", "--class", "x86-64-generic")
