"""A host becomes a board of the farm, runs a sweep, and is restored to its first state."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.board import Board
from farm.commands import run
from support.cli import Shell

Find = Callable[[str], Board]
Ssh = Callable[[Board], tuple[str, ...]]

EVERY_FILE = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log "
    "-o -path /var/lib/systemd -o -path '/etc/*-' \\) -prune -o -print | sort"
)
SPEC = """
name: on-board
models: [digits_cnn]
devices: {names: [new]}
runtimes: [{backend: onnxruntime, precision: [fp32, int8], threads: 1}]
trials: 2
scenario: {min_duration_s: 0.2, max_duration_s: 1.0}
"""


def test_from_nothing_to_figures_and_back(
    shell: Shell, board: Find, ssh: Ssh, tmp_path: Path
) -> None:
    (shell.home / "boards" / "known_hosts").unlink(missing_ok=True)  # written by earlier tests
    one = board("one")
    before, units = one.inside(EVERY_FILE), one.inside("systemctl list-unit-files --no-pager")
    accounts = one.inside("cat /etc/passwd /etc/group")

    words = (*ssh(one), "--class", "x86-64-generic")  # fits any processor of this machine
    said = shell.fine("device", "add", "new", *words, "--dry-run")
    assert "would change=" in said
    assert one.fingerprint() in said
    assert one.inside(EVERY_FILE) == before

    said = shell.fine("device", "add", "new", *words)
    assert re.search(r"heartbeat +changed", said)
    assert "onnxruntime 1.31.1 on CPU: fp32, fp16, bf16, int8, fp8, int4" in said
    assert "new's health: good" in said
    assert json.loads(shell.fine("device", "show", "new", "-o", "json"))[0]["storage_free_mib"] > 0
    _keeps_its_token(one)

    again = shell.fine("device", "add", "new", "--class", "x86-64-generic")
    assert "changed=0" in again
    assert " … " not in again

    _gives_figures(shell, tmp_path)

    said = shell.fine("device", "retire", "new")
    assert "changed=5" in said
    assert one.inside(EVERY_FILE) == before
    assert one.inside("systemctl list-unit-files --no-pager") == units
    assert one.inside("cat /etc/passwd /etc/group") == accounts
    assert "6 steps, changed=0" in shell.fine("device", "retire", "new", *ssh(one))


def _keeps_its_token(board: Board) -> None:
    path = "/var/lib/benchfarm/agent.json"
    assert board.inside(f"stat -c '%a %U' {path} /var/lib/benchfarm").split() == [
        *("600", "benchfarm"),
        *("700", "benchfarm"),
    ]
    token = json.loads(board.inside(f"cat {path}"))["token"]
    seen = board.inside("journalctl --no-pager; ps axww; cat /home/bench/.*history || true")
    assert len(token) > 20
    assert token not in seen


def _gives_figures(shell: Shell, folder: Path) -> None:
    shell.fine("zoo", "build", "digits_cnn")
    spec = folder / "sweep.yaml"
    spec.write_text(SPEC)
    assert "4 of 4 trials ended; done" in shell.fine("sweep", "run", spec)
    rows = json.loads(shell.fine("report", "on-board", "-o", "json"))["rows"]
    assert [r["status"] for r in rows] == ["ok", "ok"]
    assert all(r["device"] == "new" and r["top1"] > 0.98 for r in rows)


def test_another_name_for_a_board_is_refused(shell: Shell, board: Find, ssh: Ssh) -> None:
    two = board("two")
    two.inside(
        'mkdir -p /opt/benchfarm && echo \'{"device": "first"}\' > /opt/benchfarm/board.json'
    )
    try:
        refusal = shell.refused("device", "add", "second", *ssh(two))
        assert "is the board 'first' already" in refusal
        refusal = shell.refused("device", "retire", "second", *ssh(two))
        assert "left alone" in refusal
    finally:
        two.inside("rm -r /opt/benchfarm")


def test_a_changed_host_key_is_refused_until_it_is_vouched_for(
    shell: Shell, board: Find, ssh: Ssh
) -> None:
    two = board("two")
    shell.fine("device", "add", "keyed", *ssh(two), "--dry-run")
    before = two.fingerprint()
    two.make_host_key()
    two.inside("systemctl restart ssh")
    ended = shell("device", "add", "keyed", *ssh(two), "--dry-run")
    assert ended.returncode == 1
    assert f"has ssh-ed25519 {before}" in ended.stderr
    assert f"shows ssh-ed25519 {two.fingerprint()}" in ended.stderr

    wrong = shell("device", "add", "keyed", *ssh(two), "--dry-run", "--host-key", "SHA256:other")
    assert wrong.returncode == 1
    vouched = ("--host-key", two.fingerprint())
    assert "pinned" in shell.fine("device", "add", "keyed", *ssh(two), "--dry-run", *vouched)
    assert "pinned" not in shell.fine("device", "add", "keyed", *ssh(two), "--dry-run")


@pytest.mark.parametrize(("name", "why"), [("asks", "without a password"), ("none", "password")])
def test_without_root_nothing_is_begun(
    name: str, why: str, shell: Shell, board: Find, ssh: Ssh
) -> None:
    host = board(name)
    ended = shell("device", "add", "rootless", *ssh(host))
    assert ended.returncode == 1
    assert "may not become root" in ended.stderr
    assert why in ended.stderr
    assert host.inside("ls /opt") == ""


def test_without_a_python_nothing_is_begun(shell: Shell, board: Find, ssh: Ssh) -> None:
    two = board("two")
    two.inside("mv /usr/bin/python3.11 /usr/bin/hidden")
    try:
        ended = shell("device", "add", "bare", *ssh(two))
        assert ended.returncode == 1
        assert "no Python 3.11 or newer with venv (found: none)" in ended.stderr
        assert "--python-archive" in ended.stderr
        assert two.inside("ls /opt") == ""
    finally:
        two.inside("mv /usr/bin/hidden /usr/bin/python3.11")


def test_a_wrong_key_is_refused(shell: Shell, board: Find, tmp_path: Path) -> None:
    key = tmp_path / "wrong"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    words = ("--ssh", f"bench@{board('two').address}", "--identity", key)
    ended = shell("device", "add", "keyless", *words)
    assert ended.returncode == 1
    assert f"refuses the login with {key}" in ended.stderr


def test_a_silent_host_is_named_in_time(shell: Shell, board: Find, ssh: Ssh) -> None:
    two = board("two")
    two.cut_network()
    ended = shell("device", "add", "silent", *ssh(two))
    assert ended.returncode == 1
    assert two.address in ended.stderr
    assert "Traceback" not in ended.stderr
