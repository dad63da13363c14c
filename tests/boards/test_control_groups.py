"""Control groups of version 2 and systemd's delegation, by a real kernel and a real systemd."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.worker.isolation.child_cgroup import MEMORY_HEADROOM_MIB, PROCESSES
from farm import virtual
from farm.board import Board
from farm.tree import NATIVE, tree
from farm.virtual import Entry
from playbooks.steps import UNIT_TEXT
from playbooks.target import STATE, UNIT, USER
from support.need import need

ROOT = Path(__file__).parents[2]
LIMIT_S = 500.0
NUMBER = 970
GUEST = "try/guest.py"
SCRIPT = Path(__file__).with_name("guest_cgroup.py")
DROP_IN = f"""\
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -I /{GUEST}
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""
SWITCH_OFF = f"""\
[Service]
ExecStart=/bin/sh -c 'until [ -e {STATE}/done ]; do sleep 0.2; done; exec systemctl poweroff -ff'
"""


def entries(unit: str) -> list[Entry]:
    """The agent's files, user and unit, and a unit that switches the machine off at the end."""
    system = "etc/systemd/system"
    wants = f"{system}/multi-user.target.wants"
    folder, link = stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
    base = tree(NATIVE)
    users = {name: (base / "etc" / name).read_text() for name in ("passwd", "group")}
    users["passwd"] += f"{USER}:x:{NUMBER}:{NUMBER}::{STATE}:/usr/sbin/nologin\n"
    users["group"] += f"{USER}:x:{NUMBER}:\n"
    made = [
        *(Entry(f"etc/{name}", text.encode()) for name, text in users.items()),
        Entry(STATE.lstrip("/"), mode=stat.S_IFDIR | 0o700, owner=NUMBER),
        Entry(f"{system}/{UNIT}", unit.encode()),
        Entry(f"{system}/{UNIT}.d", mode=folder),
        Entry(f"{system}/{UNIT}.d/guest.conf", DROP_IN.encode()),
        Entry(f"{wants}/{UNIT}", f"/{system}/{UNIT}".encode(), link),
        Entry(f"{system}/off.service", SWITCH_OFF.encode()),
        Entry(f"{wants}/off.service", f"/{system}/off.service".encode(), link),
        Entry(f"{wants}/ssh.service", b"/dev/null", link),
        Entry("try", mode=folder),
        Entry("try/agent", mode=folder),
        Entry(GUEST, SCRIPT.read_bytes()),
    ]
    for path in sorted((ROOT / "agent").rglob("*")):
        name = f"try/{path.relative_to(ROOT)}"
        if path.is_dir():
            made.append(Entry(name, mode=folder))
        elif path.suffix == ".py":
            made.append(Entry(name, path.read_bytes()))
    return made


Findings = dict[str, dict[str, Any]]


def findings(text: str) -> Findings:
    """The findings that the guest printed, by name."""
    lines = [line.split("FOUND ", 1)[1] for line in text.splitlines() if "FOUND " in line]
    found = {line["name"]: line for line in map(json.loads, lines)}
    assert found, text[-2000:]
    assert "failed" not in found, found["failed"]
    return found


@pytest.fixture(scope="module")
def guest() -> Findings:
    """The findings of a virtual machine with the unit that `device add` writes."""
    why = virtual.missing()
    need("qemu", not why, why)
    return findings(virtual.console_of(entries(UNIT_TEXT), limit_s=LIMIT_S))


def test_an_agent_without_privileges_is_handed_its_units_group(
    guest: Findings,
) -> None:
    settled = guest["settled"]
    assert settled["user"] == NUMBER
    assert settled["own"] == f"0::/system.slice/{UNIT}/agent"
    assert settled["said"].endswith("bound memory and processes of children")


def test_a_childs_limits_are_those_it_was_given(guest: Findings) -> None:
    wanted = {
        "memory.max": str((512 + MEMORY_HEADROOM_MIB) << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": str(PROCESSES),
    }
    assert json.loads(guest["limits"]["answer"]) == wanted
    assert json.loads(guest["swaps"]["answer"]) == wanted | {"memory.swap.max": "max"}


@pytest.mark.parametrize(
    ("name", "killed", "words"),
    [
        ("greedy", "memory_group", "over its limit of 64 MiB"),
        ("greedier than the board", "memory_system", "its unit, or the board, had no memory left"),
    ],
)
def test_the_kernel_ends_what_takes_too_much_and_is_asked_why(
    guest: Findings, name: str, killed: str, words: str
) -> None:
    found = guest[name]
    assert (found["kind"], found["killed"]) == ("out_of_memory", killed)
    assert words in found["message"]


def test_processes_have_a_largest_number(guest: Findings) -> None:
    assert 40 < guest["forks"]["count"] < 50


def test_nothing_survives(guest: Findings) -> None:
    """No process, even without its group, session and mark; and no control group."""
    assert guest["escapes"]["left"] is False
    assert guest["old kernel"]["left"] is False, "without cgroup.kill"
    assert guest["left behind"]["left"] is False, "after the agent was killed"
    assert guest["groups"]["left"] == []


def test_a_killed_agent_starts_again_where_it_was(guest: Findings) -> None:
    """systemd starts no process in a group that has children with limits, so they were removed."""
    assert guest["dies"]["groups"] == 1
    again = guest["again"]
    assert (again["said"], again["own"]) == (guest["settled"]["said"], guest["settled"]["own"])
    assert (again["left"], again["groups"]) == (False, [])


@pytest.mark.parametrize("delegated", [True, False])
def test_beside_version_1_a_group_only_holds_a_child_together(
    board: Callable[[str], Board], delegated: bool
) -> None:
    """Boards under nspawn have this host's version 1, and beside it version 2 without controllers.
    A group then only serves to kill all processes: without it, one that leaves its process group
    and session and drops its mark survives."""
    one = board("one")
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("this host has version 2 alone, and so have its boards")
    folder = one.root / "try"
    shutil.copytree(ROOT / "agent", folder / "agent", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy2(SCRIPT, one.root / GUEST)
    words = "-p Delegate='memory pids'" if delegated else ""
    command = f"systemd-run --quiet --wait --pipe --uid=bench {words} python3 -I /{GUEST} escape"
    try:
        found = findings(one.inside(command))["escapes"]
    finally:
        shutil.rmtree(folder)
    assert found["user"] != 0
    assert found["left"] is not delegated
    assert found["groups"] == []
    remedy = "systemd.unified_cgroup_hierarchy=1" if delegated else "Delegate=memory pids"
    assert remedy in found["said"]
