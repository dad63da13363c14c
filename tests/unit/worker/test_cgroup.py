"""Where this process stands, decided from files that play a kernel's: never that a kernel does it
(``tests/boards/test_control_groups.py`` asks a real one)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.worker.isolation import agent_cgroup

UNIT = "/system.slice/benchfarm-agent.service"
V2 = "35 24 0:30 / {place} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
SURVEY = agent_cgroup.survey
V1 = "36 24 0:31 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory"


class Played:
    """A ``/proc/self`` and the tree that a version 2 mount would show."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.tree = folder / "cgroup"
        self.proc.mkdir()
        self.tree.mkdir()

    def stand(self, own: str, mounts: str = V2, root: str = "/") -> None:
        (self.proc / "cgroup").write_text(own)
        line = mounts.format(place=self.tree).replace(" / ", f" {root} ", 1)
        (self.proc / "mountinfo").write_text(f"{V1}\n{line}\n")

    def make(self, path: str) -> Path:
        folder = self.tree / path.lstrip("/")
        folder.mkdir(parents=True)
        return folder

    def survey(self, user: int = 12345) -> agent_cgroup.AgentCgroup:
        return SURVEY(self.proc, user)


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path)


def given(folder: Path, monkeypatch: pytest.MonkeyPatch, **marks: bytes) -> None:
    """Let ``folder`` alone have these attributes, dots written as ``_``."""

    def getxattr(path: Path, name: str) -> bytes:
        if path == folder and name.replace(".", "_") in marks:
            return marks[name.replace(".", "_")]
        raise OSError(61, "No data available")

    monkeypatch.setattr(os, "getxattr", getxattr)


@pytest.mark.parametrize("mark", ["user_delegate", "trusted_delegate"])
def test_a_marked_group_is_ours(played: Played, monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    top = played.make(UNIT)
    played.stand(f"0::{UNIT}\n")
    given(top, monkeypatch, **{mark: b"1"})
    ground = played.survey()
    assert (ground.own, ground.top, ground.settled) == (top, top, False)


def test_in_its_leaf_an_agent_is_settled(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = played.make(f"{UNIT}/{agent_cgroup.LEAF}")
    played.stand(f"0::{UNIT}/{agent_cgroup.LEAF}\n")
    given(leaf.parent, monkeypatch, user_delegate=b"1")
    ground = played.survey()
    assert (ground.own, ground.top, ground.settled) == (leaf, leaf.parent, True)


def test_an_older_systemd_marks_nothing_that_we_may_see_but_gives_the_folder(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = played.make(UNIT)
    played.stand(f"0::{UNIT}\n")
    given(top, monkeypatch)
    user = os.getuid() or 1000
    if os.getuid() == 0:
        os.chown(top, user, user)
        assert played.survey(user).top == top
    above = played.tree / "system.slice"
    if os.getuid() == 0:
        os.chown(above, user, user)
    assert played.survey(user).top is None, "what lies above is ours as well: no one handed it over"


@pytest.mark.parametrize("marks", [{}, {"user_delegate": b"0"}])
def test_a_group_that_nobody_handed_over_is_left_alone(
    played: Played, monkeypatch: pytest.MonkeyPatch, marks: dict[str, bytes]
) -> None:
    """A shell's: even root, who may, does not."""
    own = played.make("/user.slice/user-0.slice/session-1.scope")
    played.stand("0::/user.slice/user-0.slice/session-1.scope\n")
    given(own, monkeypatch, **marks)
    ground = played.survey(0)
    assert (ground.own, ground.top) == (own, None)
    assert "Delegate=memory pids" in ground.reason


def test_beside_version_1_the_line_of_version_2_counts(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = played.make(UNIT)
    played.stand(f"4:memory:/other\n1:name=systemd:{UNIT}\n0::{UNIT}\n")
    given(top, monkeypatch, user_delegate=b"1")
    assert played.survey().top == top


@pytest.mark.parametrize(
    ("own", "mounts"),
    [
        (f"4:memory:{UNIT}\n", V2),
        (f"0::{UNIT}\n", V1),
        ("0::/../elsewhere\n", V2),
        ("0::/not/there\n", V2),
    ],
    ids=["version 1", "not mounted", "outside of our namespace", "hidden"],
)
def test_without_version_2_the_reason_says_what_would_help(
    played: Played, own: str, mounts: str
) -> None:
    played.make(UNIT)
    played.stand(own, mounts)
    ground = played.survey()
    assert (ground.own, ground.top) == (None, None)
    assert "systemd.unified_cgroup_hierarchy=1" in ground.reason


def test_only_a_part_of_the_tree_may_be_mounted(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = played.make("/benchfarm-agent.service")
    played.stand(f"0::{UNIT}\n", root="/system.slice")
    given(top, monkeypatch, user_delegate=b"1")
    assert played.survey().top == top
    played.stand("0::/system.slicer/x\n", root="/system.slice")
    assert played.survey().own is None


def test_without_a_group_a_child_runs_as_it_did() -> None:
    with agent_cgroup.child_group(64) as group:
        assert group.command(["/bin/true"]) == ["/bin/true"]
        assert (group.out_of_memory(), group.peak_mib()) == ("", 0.0)


def test_where_others_are_in_the_group_that_is_said(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses to divide it then; a tree of plain files has nothing to write to."""
    top = played.make(UNIT)
    leaf = played.make(f"{UNIT}/{agent_cgroup.LEAF}")
    (leaf / "cgroup.procs").write_text("")
    (top / "cgroup.controllers").write_text("memory pids\n")
    (top / "cgroup.subtree_control").mkdir()
    played.stand(f"0::{UNIT}\n")
    given(top, monkeypatch, user_delegate=b"1")
    monkeypatch.setattr(agent_cgroup, "survey", played.survey)
    said = agent_cgroup.settle()
    assert (leaf / "cgroup.procs").read_text() == "0", "it has gone into the leaf all the same"
    assert "do not bound their memory and pids" in said
    assert "other processes are in that group" in said


def test_a_group_of_a_killed_agent_goes_and_one_of_an_agent_beside_us_stays(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = played.make(UNIT)
    leaf = played.make(f"{UNIT}/{agent_cgroup.LEAF}")
    (leaf / "cgroup.procs").write_text(f"4711 {os.getpid()}\n")
    for name in ("child-4711-1", "child-4712-1", f"child-{os.getpid()}-3", "other"):
        played.make(f"{UNIT}/{name}")
    played.stand(f"0::{UNIT}/{agent_cgroup.LEAF}\n")
    given(top, monkeypatch, user_delegate=b"1")
    monkeypatch.setattr(agent_cgroup, "survey", played.survey)
    agent_cgroup.settle()
    assert {path.name for path in top.iterdir()} == {agent_cgroup.LEAF, "child-4711-1", "other"}
