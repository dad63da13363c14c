"""Vendors' tools: found below a root, ended in time with all that they started."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from agent.system import commands
from agent.system.errors import Unreadable
from support.board_files import tool


def ask(root: Path, script: str) -> list[str]:
    tool(root, "tool", script)
    found = commands.find(root, "tool")
    assert found == str(root / "usr/bin/tool")
    return [found]


def test_a_tool_is_looked_for_below_the_root_alone(tmp_path: Path) -> None:
    assert commands.find(tmp_path, "sh") is None
    assert commands.find(Path("/"), "sh") is not None


def test_what_a_tool_says_when_it_fails_is_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"^tool failed \(3\): no such GPU$"):
        commands.output(ask(tmp_path, "echo one; echo no such GPU >&2; exit 3"))
    with pytest.raises(Unreadable, match=r"^tool failed \(1\): it said nothing$"):
        commands.output(ask(tmp_path, "exit 1"))
    assert commands.output(ask(tmp_path, "echo fine; echo warned >&2")) == "fine\n"


def test_a_tool_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    command = ask(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(Unreadable, match=r"did not answer within 0\.5 s"):
        commands.output(command, 0.5)
    gone(tmp_path)
    with pytest.raises(Unreadable, match=r"printed no line of values within 0\.5 s$"):
        commands.first_line(command, re.compile("RAM"), 0.5)
    gone(tmp_path)


def gone(folder: Path) -> None:
    """The orphan is reaped by init, at its leisure."""
    status = Path("/proc", (folder / "pid").read_text().strip(), "stat")
    for _ in range(100):
        if not status.exists() or " Z " in status.read_text():
            return
        time.sleep(0.02)
    pytest.fail(f"{status} is still there")


def test_a_tool_without_a_shell_line_is_said(tmp_path: Path) -> None:
    command = ask(tmp_path, "")
    (tmp_path / "usr/bin/tool").write_bytes(b"\0\1\2")
    with pytest.raises(Unreadable, match="tool cannot be started: Exec format error"):
        commands.output(command)
