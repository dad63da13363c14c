"""Commands that wait: what for, and until when."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WAIT = """
import time
from orchestrator.cli import waiting
waiting.PATIENCE_S = {quiet}
with waiting.waiting("the reference of net.keras", {limit}):
    time.sleep({sleep})
"""


def test_a_terminal_counts_the_seconds_and_is_clean_afterwards() -> None:
    ours, theirs = pty.openpty()
    code = WAIT.format(quiet=3, limit=660, sleep=1.3)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(60) == 0
    text = seen.decode()
    assert "waiting for the reference of net.keras, 1 s (at most 11 min 0 s)" in text
    assert text.rstrip().endswith("\x1b[2K"), "the line is still there"


def test_a_pipe_gets_one_line_where_it_takes_long() -> None:
    assert (
        _piped(quiet=0.2, sleep=1.5)
        == "waiting for the reference of net.keras (at most 1 h 0 min)\n"
    )


def test_a_pipe_gets_nothing_where_it_is_quick() -> None:
    assert _piped(quiet=30, sleep=0) == ""


def _piped(quiet: float, sleep: float) -> str:
    code = WAIT.format(quiet=quiet, limit=3600, sleep=sleep)
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (0, "")
    return ended.stderr
