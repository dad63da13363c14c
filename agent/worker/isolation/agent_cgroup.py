"""The agent's own control group (version 2), and a group below it for each child.

systemd delegates the unit's group to the agent's user (``Delegate=memory pids``). A group that has
children with limits may hold no process itself, so the agent first moves into the leaf ``agent``;
its children get siblings of that, ``child-…``. Where no group was delegated, or the system has
version 1, nothing is done and the reason is returned: then rlimits and the parent's check of the
resident memory limit children.

Sources: Documentation/admin-guide/cgroup-v2.rst of Linux; docs/CGROUP_DELEGATION.md of systemd.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.worker.isolation.child_cgroup import ChildCgroup, NoCgroup, set_value, words

log = logging.getLogger(__name__)

LEAF = "agent"
CHILD = "child-"
WANTED = ("memory", "pids")
"""Not ``cpu``: with it the scheduler would weigh groups against each other during a measurement."""
NOTE_NAME = "bounds.txt"
"""File in the state folder with the answer of ``settle``, for other processes."""
UNIFIED = "start the kernel with systemd.unified_cgroup_hierarchy=1"
UNIT = "run the agent as a unit with `Delegate=memory pids`, as `device upgrade` installs it"

_counter = itertools.count(1)


@dataclass(frozen=True)
class AgentCgroup:
    """This process's group.

    ``own``: its folder; ``None`` without version 2. ``top``: the delegated group; ``None``: there
    is none, and ``reason`` says why and what would help.
    """

    own: Path | None
    top: Path | None
    reason: str = ""

    @property
    def settled(self) -> bool:
        """Whether this process is in the leaf, so that children can get groups beside it."""
        return self.top is not None and self.own == self.top / LEAF


def survey(proc: Path = Path("/proc/self"), user: int | None = None) -> AgentCgroup:
    """Find this process's group; change nothing. ``user``: who must own the delegated group."""
    own = _own_folder((proc / "cgroup").read_text("utf-8"), (proc / "mountinfo").read_text("utf-8"))
    if own is None or not own.is_dir():
        return AgentCgroup(None, None, f"no control groups of version 2: {UNIFIED}")
    top = own.parent if own.name == LEAF else own
    if not _is_delegated(top, os.getuid() if user is None else user):
        return AgentCgroup(own, None, f"{top} was not handed to us: {UNIT}")
    return AgentCgroup(own, top)


def settle() -> str:
    """Move this process into the leaf, and remove groups that an earlier agent left. Returns what
    limits children from now on, in one line for people; never raises."""
    try:
        return _settle(survey())
    except OSError as error:
        return _without(str(error))


def _settle(cgroup: AgentCgroup) -> str:
    if cgroup.top is None:
        return _without(cgroup.reason)
    top = cgroup.top
    leaf = top / LEAF
    if not cgroup.settled:
        leaf.mkdir(exist_ok=True)
        set_value(leaf / "cgroup.procs", "0")
    _remove_old_groups(top)
    on = _enable_controllers(top)
    missing = [name for name in WANTED if name not in on]
    if not missing:
        return f"control groups below {top} bound memory and processes of children"
    return (
        f"control groups below {top} hold children together, but do not bound their "
        f"{' and '.join(missing)}: {_remedy(top, missing)}"
    )


def _without(reason: str) -> str:
    return f"rlimits and a look every 2 s bound children, for they get no control group: {reason}"


def _remedy(top: Path, missing: Sequence[str]) -> str:
    """How to get the controllers that the kernel or systemd did not enable."""
    if set(missing) & set(words(top / "cgroup.controllers")):
        return "other processes are in that group itself, and have to leave it"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cgroups").read_text().splitlines():
            name, hierarchy, _, enabled = (*line.split(), "", "", "")[:4]
            if name in missing and enabled == "0":
                return f"start the kernel with cgroup_enable={name}"
            if name in missing and hierarchy != "0":
                return UNIFIED
    return "the unit's `Delegate=` has to name them"


def _enable_controllers(top: Path) -> set[str]:
    """Enable the wanted controllers for the groups below ``top``. Returns the enabled ones."""
    for name in sorted(set(words(top / "cgroup.controllers")) & set(WANTED)):
        try:
            set_value(top / "cgroup.subtree_control", f"+{name}")
        except OSError as error:
            log.warning("%s: %s cannot be bounded: %s", top, name, error)
    return set(words(top / "cgroup.subtree_control"))


def _remove_old_groups(top: Path) -> None:
    """Remove groups of agents that are gone from the leaf, or that had this process's id."""
    agents = set(words(top / LEAF / "cgroup.procs")) - {str(os.getpid())}
    for folder in top.glob(f"{CHILD}*"):
        if folder.name.split("-")[1] not in agents:
            log.warning("%s was left behind: what runs in it is killed", folder)
            group = ChildCgroup(folder)
            group.kill()
            group.remove()


@contextlib.contextmanager
def child_group(memory_mib: int, *, swaps: bool = False) -> Iterator[NoCgroup]:
    """A group for one child; afterwards it and every process in it are gone. ``NoCgroup`` where
    ``settle`` found no delegated group. ``swaps``: whether the child may be swapped out."""
    group = _create_group(memory_mib, swaps)
    if group is None:
        yield NoCgroup()
        return
    try:
        yield group
    finally:
        group.kill()
        group.remove()


def _create_group(memory_mib: int, swaps: bool) -> ChildCgroup | None:
    try:
        cgroup = survey()
        if cgroup.top is None or not cgroup.settled:
            return None
        group = ChildCgroup(cgroup.top / f"{CHILD}{os.getpid()}-{next(_counter)}")
        group.folder.mkdir()
    except OSError as error:
        log.warning("no control group for a child: %s", error)
        return None
    try:
        group.bound(memory_mib, swaps=swaps)
    except OSError as error:
        log.warning("%s: no limits: %s", group.folder, error)
    return group


def _own_folder(groups: str, mounts: str) -> Path | None:
    """This process's group as a folder, from ``/proc/self/cgroup`` and ``/proc/self/mountinfo``."""
    own = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    if own is None or own.startswith("/.."):
        return None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            root, place = before.split()[3:5]
            root = root.rstrip("/")
            if own == root or own.startswith(f"{root}/"):
                return Path(f"{place}{own[len(root) :]}".rstrip("/"))
    return None


def _is_delegated(top: Path, user: int) -> bool:
    """Whether a group is delegated to ``user``. systemd marks delegated groups (``user.`` since
    version 251, ``trusted.`` readable by root only), and gives the unit's user this group but none
    above."""
    for attribute in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(top, attribute) == b"1":
                return os.access(top, os.W_OK)
    return user != 0 and top.stat().st_uid == user and top.parent.stat().st_uid != user
