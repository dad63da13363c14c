"""Runs in a virtual machine in place of the agent's unit: tries what control groups limit there.

Each finding is a line of JSON on the console, after ``FOUND``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, "/try")

from agent.contract.child_jobs import Converted
from agent.worker.isolation import agent_cgroup, child_cgroup, child_process
from agent.worker.isolation.child_process import CancelRequest, ChildEnd, ChildLimits, run_child
from agent.worker.isolation.runner_client import read_answer

STATE = Path(os.environ.get("BENCHFARM_AGENT_HOME", "/nowhere"))
BEFORE = STATE / "before"
USUAL = ChildLimits(60.0, 512)

LIMITS = """
import json, pathlib
own = pathlib.Path("/sys/fs/cgroup" + open("/proc/self/cgroup").read().split("::")[1].strip())
names = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max")
print(json.dumps({n: (own / n).read_text().strip() for n in names if (own / n).exists()}))
"""
GREEDY = """
held = []
while True:
    held.append(bytearray(b"x" * (16 << 20)))
"""
FORKS = """
import os, time
count = 0
try:
    while count < 500:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except BlockingIOError:
    pass
print(count)
"""
ESCAPES = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.execve("/bin/sleep", ["sleep", "600"], {})  # without the mark
    os._exit(0)
os.wait()
time.sleep(1)
"""
WAITS = """
import os, time
with open({path!r}, "w") as file:
    file.write(str(os.getpid()))
time.sleep(600)
"""


def found(name: str, **what: object) -> None:
    sys.stdout.write(f"FOUND {json.dumps({'name': name, **what})}\n")
    sys.stdout.flush()


def child(source: str, bounds: ChildLimits = USUAL) -> ChildEnd:
    with tempfile.TemporaryDirectory() as folder, CancelRequest() as cancel:
        words = [sys.executable, "-I", "-c", source]
        return run_child(words, "", folder=Path(folder), bounds=bounds, cancel=cancel)


def failure(end: ChildEnd, bounds: ChildLimits) -> dict[str, object]:
    judged = read_answer(end, Converted, "trial", bounds).failure
    kind, message = (judged.kind, judged.message) if judged else ("", "")
    return {"kind": kind, "message": message, "killed": end.killed, "signal": end.signal_name}


def alive(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def groups() -> list[str]:
    top = agent_cgroup.survey().top
    return [] if top is None else [folder.name for folder in top.glob("child-*")]


def first() -> None:
    child_process.MEMORY_CHECK_S = 600.0  # only the kernel enforces the limit
    found("limits", answer=child(LIMITS).answer)
    found("swaps", answer=child(LIMITS, ChildLimits(60.0, 512, swaps=True)).answer)
    small = ChildLimits(60.0, 64)
    found("greedy", **failure(child(GREEDY, small), small))
    large = ChildLimits(60.0, 1 << 20)
    found("greedier than the board", **failure(child(GREEDY, large), large))
    child_cgroup.PROCESSES = 50
    found("forks", count=int(child(FORKS).answer or -1))
    child_cgroup.PROCESSES = 4096
    found("escapes", left=escaped())
    found("old kernel", left=old_kernel())
    found("left behind", left=left_behind())
    found("groups", left=groups())
    threading.Thread(target=child, args=(WAITS.format(path=str(BEFORE)),)).start()
    while not BEFORE.exists() or not BEFORE.read_text():
        time.sleep(0.05)
    found("dies", groups=len(groups()))
    os.kill(os.getpid(), signal.SIGKILL)


def escaped() -> bool:
    """Whether a process that left its process group and session survives its child's end."""
    pid = int(child(ESCAPES).answer or "0")
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = alive(pid)
    if left:
        os.kill(pid, signal.SIGKILL)
    return left


def old_kernel() -> bool:
    """Whether a process survives in a group of a kernel without ``cgroup.kill``."""
    pids: list[str] = []

    def kill(self: child_cgroup.ChildCgroup) -> None:
        pids.extend(child_cgroup.words(self.folder / "cgroup.procs"))
        self._kill_each(time.monotonic() + 5)

    with mock.patch.object(child_cgroup.ChildCgroup, "kill", kill):
        child(ESCAPES)
    assert pids, "nothing was in it"
    return any(alive(int(pid)) for pid in pids)


def left_behind() -> bool:
    """Whether a process survives a killed agent where no systemd cleans up."""
    top = agent_cgroup.survey().top
    assert top is not None
    folder = top / "child-999999-1"
    (folder / "made-by-the-child").mkdir(parents=True)
    sleeper = subprocess.Popen(["/bin/sleep", "600"])
    child_cgroup.set_value(folder / "made-by-the-child/cgroup.procs", str(sleeper.pid))
    agent_cgroup.settle()
    return sleeper.wait(5) != -signal.SIGKILL or folder.exists()


def as_a_unit() -> None:
    said, own = agent_cgroup.settle(), Path("/proc/self/cgroup").read_text().strip()
    if BEFORE.exists():
        left = alive(int(BEFORE.read_text()))
        found("again", said=said, own=own, left=left, groups=groups())
        return
    found("settled", said=said, own=own, user=os.getuid(), kernel=os.uname().release)
    try:
        first()
    except BaseException as error:
        found("failed", error=repr(error))
        raise


def escape() -> None:
    """Only the checks that need no cgroup controller."""
    said = agent_cgroup.settle()
    found("escapes", said=said, user=os.getuid(), left=escaped(), groups=groups())


if sys.argv[1:] == ["escape"]:
    escape()
else:
    try:
        as_a_unit()
    finally:
        (STATE / "done").touch()
    signal.pause()
