"""The agent's own control group (version 2), and a group below it for each child.

systemd hands the unit's group to the agent's user (``Delegate=memory pids``). A group that has
children with limits may hold no process itself, so the agent first moves into the leaf ``agent``;
its children get siblings of that, ``child-…``. Where nothing was handed over, or the system has
version 1, nothing is done and a reason is given: rlimits and the look at the memory bound children
there.

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
"""No ``cpu``: with it the scheduler would weigh groups against each other, beside a measurement."""
NOTE_NAME = "bounds.txt"
"""Where in the state folder the agent keeps what ``settle`` said, for others to read."""
UNIFIED = "start the kernel with systemd.unified_cgroup_hierarchy=1"
UNIT = "run the agent as a unit with `Delegate=memory pids`, as `device upgrade` installs it"

_counter = itertools.count(1)


@dataclass(frozen=True)
class AgentCgroup:
    """Where this process stands: ``own`` is its group's folder, ``None`` without version 2;
    ``top`` the group that was handed to us, ``None`` where none was. ``reason``: why not, and what
    would help."""

    own: Path | None
    top: Path | None
    reason: str = ""

    @property
    def settled(self) -> bool:
        """Whether groups for children can be made beside us."""
        return self.top is not None and self.own == self.top / LEAF


def survey(proc: Path = Path("/proc/self"), user: int | None = None) -> AgentCgroup:
    """Look where we stand, and change nothing. ``user``: whose the group has to be."""
    own = _own_folder((proc / "cgroup").read_text("utf-8"), (proc / "mountinfo").read_text("utf-8"))
    if own is None or not own.is_dir():
        return AgentCgroup(None, None, f"no control groups of version 2: {UNIFIED}")
    top = own.parent if own.name == LEAF else own
    if not _handed_over(top, os.getuid() if user is None else user):
        return AgentCgroup(own, None, f"{top} was not handed to us: {UNIT}")
    return AgentCgroup(own, top)


def settle() -> str:
    """Make this process ready for children with groups of their own, and take away groups that an
    agent before us left. What bounds children from now on, in one line for people; never raises."""
    try:
        return _settle(survey())
    except OSError as error:
        return _without(str(error))


def _settle(ground: AgentCgroup) -> str:
    if ground.top is None:
        return _without(ground.reason)
    top = ground.top
    leaf = top / LEAF
    if not ground.settled:
        leaf.mkdir(exist_ok=True)
        set_value(leaf / "cgroup.procs", "0")
    _take_away_old(top)
    on = _turn_on(top)
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
    """How to get controllers that the kernel or systemd did not give us."""
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


def _turn_on(top: Path) -> set[str]:
    """Have groups below ``top`` bound what we want; what they do bound."""
    for name in sorted(set(words(top / "cgroup.controllers")) & set(WANTED)):
        try:
            set_value(top / "cgroup.subtree_control", f"+{name}")
        except OSError as error:
            log.warning("%s: %s cannot be bounded: %s", top, name, error)
    return set(words(top / "cgroup.subtree_control"))


def _take_away_old(top: Path) -> None:
    """Groups of an agent that is in the leaf no more, or that had our number."""
    agents = set(words(top / LEAF / "cgroup.procs")) - {str(os.getpid())}
    for folder in top.glob(f"{CHILD}*"):
        if folder.name.split("-")[1] not in agents:
            log.warning("%s was left behind: what runs in it is killed", folder)
            group = ChildCgroup(folder)
            group.kill()
            group.remove()


@contextlib.contextmanager
def child_group(memory_mib: int, *, swaps: bool = False) -> Iterator[NoCgroup]:
    """A group for one child, gone afterwards with everything in it; none where this process did not
    ``settle``. ``swaps``: whether it may be swapped out."""
    group = _made(memory_mib, swaps)
    if group is None:
        yield NoCgroup()
        return
    try:
        yield group
    finally:
        group.kill()
        group.remove()


def _made(memory_mib: int, swaps: bool) -> ChildCgroup | None:
    try:
        ground = survey()
        if ground.top is None or not ground.settled:
            return None
        group = ChildCgroup(ground.top / f"{CHILD}{os.getpid()}-{next(_counter)}")
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
    """From ``/proc/self/cgroup`` and ``/proc/self/mountinfo``: our group's folder as we see it."""
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


def _handed_over(top: Path, user: int) -> bool:
    """Whether a group is for us to divide: systemd marks what it delegates (``user.`` since version
    251, the other for root's eyes), and gives it to the unit's user, what lies above not."""
    for attribute in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(top, attribute) == b"1":
                return os.access(top, os.W_OK)
    return user != 0 and top.stat().st_uid == user and top.parent.stat().st_uid != user
