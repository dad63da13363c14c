"""A board whose login shell prints, and one whose cable is pulled."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.board import Board
from farm.farm import Farm
from playbooks.connection import Login, connected
from playbooks.errors import ConnectionLost
from playbooks.host_keys import PinnedHostKeys
from support.cli import Shell

Find = Callable[[str], Board]
Ssh = Callable[[Board], tuple[str, ...]]

PROFILE = """\
echo Welcome to the lab; echo '{"device": "another"}'; printf 'no line end' >&2
( while sleep 0.1; do printf 'tick '; echo tock; done ) &
trap 'echo bye' EXIT
set -x
"""


@contextlib.contextmanager
def profile(at: Board, text: str) -> Iterator[None]:
    """Let the login user's shell begin with ``text``."""
    path = at.root / "home" / "bench" / ".bashrc"
    before = path.read_text()
    path.write_text(text + before)
    try:
        yield
    finally:
        path.write_text(before)


def test_a_board_with_a_noisy_profile_lives_its_whole_life(
    shell: Shell, board: Find, ssh: Ssh
) -> None:
    two = board("two")
    with profile(two, PROFILE):
        shell.fine("device", "add", "noisy", *ssh(two), limit_s=500)
        found = json.loads(shell.fine("device", "doctor", "noisy", "-o", "json"))
        assert {f["check"] for f in found if not f["ok"]} == set()
        told = next(f for f in found if f["check"] == "login shell")
        assert "Welcome to the lab" in told["text"]
        assert "nothing to upgrade" in shell.fine("device", "upgrade", "noisy")
        assert shell.fine("device", "logs", "noisy", "-n", "3").count("\n") == 3
        shell.fine("device", "retire", "noisy")
    assert two.inside("ls /opt; getent passwd benchfarm || true") == ""


def test_a_pulled_cable_is_said_while_it_is_waited_for(
    shell: Shell, farm: Farm, board: Find, ssh: Ssh, tmp_path: Path
) -> None:
    two = board("two")
    notes: list[tuple[float, str]] = []
    began = time.monotonic()

    @contextlib.contextmanager
    def waiting(what: str) -> Iterator[None]:
        notes.append((time.monotonic(), what))
        yield

    pins = PinnedHostKeys(tmp_path / "pinned", lambda _: None)
    login = Login(f"bench@{two.address}", str(farm.key))
    with connected(login, pins, waiting) as host:
        pulled = threading.Timer(1.0, two.cut_network)
        pulled.start()
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="went away"):
            host.run("sleep 120", limit_s=130)
        lost_s = time.monotonic() - began
    assert "10 s for an answer" in notes[0][1]
    at, text = notes[1]
    assert f"bench@{two.address}, silent for " in text
    assert "(power, cable, network?): given up " in text
    assert at - began < 14
    assert lost_s < 45
    ended = shell("device", "add", "nobody", *ssh(two))
    assert ended.returncode == 1
    assert f"waiting for bench@{two.address}:22, 10 s for an answer" in ended.stderr
    assert "does not answer within 10 s" in ended.stderr
