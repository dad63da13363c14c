"""Real children that misbehave: each ends in time, is named rightly, and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.contract.child_jobs import Converted
from agent.contract.failures import FAILURE_KINDS
from agent.worker.isolation import proc_scan, rlimits
from agent.worker.isolation.child_process import (
    LOG_TAIL_BYTES,
    MARK,
    CancelRequest,
    ChildEnd,
    ChildLimits,
    child_environment,
    run_child,
)
from agent.worker.isolation.rlimits import FILE_MAX_BYTES, OPEN_FILES
from agent.worker.isolation.runner_client import ChildOutcome, read_answer

MARGIN_S = 5.0
USUAL = ChildLimits(60.0, 2048)


def child(
    tmp_path: Path,
    source: str,
    *,
    job: str = "{}",
    wall_s: float = 60.0,
    memory_mib: int = 2048,
    cancel: CancelRequest | None = None,
) -> ChildEnd:
    """Run Python ``source`` as a child; it may not outlive its limit by more than 5 s."""
    script = tmp_path / "script.py"
    script.write_text(source)
    with CancelRequest() as own:
        end = run_child(
            [sys.executable, "-I", str(script)],
            job,
            folder=tmp_path,
            bounds=ChildLimits(wall_s, memory_mib),
            cancel=cancel or own,
        )
    assert end.duration_s < wall_s + MARGIN_S
    return end


def judged(end: ChildEnd, bounds: ChildLimits = USUAL) -> ChildOutcome:
    return read_answer(end, Converted, "convert", bounds)


def alive(pid: int) -> bool:
    """Not gone, and no zombie that only waits for whoever adopted it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int, within_s: float = 3.0) -> bool:
    deadline = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_an_answer_comes_back_with_the_log_and_the_exit_code(tmp_path: Path) -> None:
    end = child(
        tmp_path,
        "import sys, os\n"
        "job = sys.stdin.read()\n"
        "print('noted', file=sys.stderr)\n"
        "open('stage', 'w').write('load')\n"
        "sys.stdout.write(job.upper())\n",
        job='{"a": 1}',
    )
    assert end.answer == '{"A": 1}'
    assert (end.exit_code, end.signal_name, end.killed) == (0, "", "")
    assert end.log_tail == "noted\n"
    assert end.stage == "load"
    assert (tmp_path / "child.log").read_text() == "noted\n"


def test_a_job_larger_than_a_pipe_arrives_whole(tmp_path: Path) -> None:
    end = child(tmp_path, "import sys; print(len(sys.stdin.read()), end='')", job="x" * (3 << 20))
    assert end.answer == str(3 << 20)


def test_a_segmentation_fault_is_a_crash_with_its_signal_and_stage(tmp_path: Path) -> None:
    end = child(
        tmp_path,
        "import ctypes, sys\n"
        "open('stage', 'w').write('warm_up')\n"
        "print('last words', file=sys.stderr, flush=True)\n"
        "ctypes.string_at(0)\n",
    )
    failure = judged(end).failure
    assert failure is not None
    assert (failure.stage, failure.kind, failure.transient) == ("warm_up", "crash", False)
    assert "SIGSEGV" in failure.message
    assert "last words" in failure.log_tail


def test_a_hanging_child_is_ended_at_its_limit(tmp_path: Path) -> None:
    end = child(tmp_path, "import time; time.sleep(600)", wall_s=1.0)
    assert end.killed == "timeout"
    outcome = judged(end, ChildLimits(1.0, 2048))
    assert outcome.failure is not None
    assert FAILURE_KINDS[outcome.failure.kind].status == "failed"
    assert outcome.failure.kind == "timeout"
    assert "1 s" in outcome.failure.message


def test_a_child_that_ignores_sigterm_is_ended_too(tmp_path: Path) -> None:
    end = child(
        tmp_path,
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)\n",
        wall_s=1.0,
    )
    assert (end.killed, end.signal_name) == ("timeout", "SIGKILL")


@pytest.mark.parametrize("escapes", [False, True], ids=["in its group", "in a session of its own"])
@pytest.mark.parametrize("ends", [False, True], ids=["child hangs", "child ends"])
def test_no_grandchild_is_left(tmp_path: Path, escapes: bool, ends: bool) -> None:
    end = child(
        tmp_path,
        "import subprocess, sys, time\n"
        "wait = 'import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);'\n"
        "wait += \"open('grandchild', 'w').write(str(__import__('os').getpid()));\"\n"
        "wait += 'time.sleep(600)'\n"
        f"subprocess.Popen([sys.executable, '-c', wait], start_new_session={escapes})\n"
        "import os\n"
        "while not os.path.exists('grandchild') or not open('grandchild').read():\n"
        "    time.sleep(0.01)\n"
        "print('{}')\n"
        f"time.sleep(0 if {ends} else 600)\n",
        wall_s=20.0 if ends else 3.0,
    )
    assert end.killed == ("" if ends else "timeout")
    assert gone(int((tmp_path / "grandchild").read_text()))


def test_memory_over_the_limit_ends_the_child(tmp_path: Path) -> None:
    end = child(
        tmp_path,
        "import time\n"
        "held = []\n"
        "while sum(map(len, held)) < 400 << 20:\n"
        "    held.append(bytearray(b'x' * (8 << 20)))\n"
        "time.sleep(600)\n",
        memory_mib=200,
        wall_s=30.0,
    )
    failure = judged(end, ChildLimits(30.0, 200)).failure
    assert failure is not None
    assert failure.kind == "out_of_memory"
    assert "over its limit of 200 MiB" in failure.message


def test_memory_taken_at_once_is_refused_by_the_system(tmp_path: Path) -> None:
    """Between two looks at the resident memory RLIMIT_DATA is the fence."""
    end = child(
        tmp_path,
        "try:\n    bytearray(3 << 30)\nexcept MemoryError:\n    print('refused', end='')\n",
        memory_mib=200,
    )
    assert end.answer == "refused"


def test_a_grandchild_counts_in_its_groups_memory(tmp_path: Path) -> None:
    end = child(
        tmp_path,
        "import subprocess, sys\n"
        "eat = 'import time; held = bytearray(b\"x\" * (400 << 20)); time.sleep(600)'\n"
        "subprocess.run([sys.executable, '-c', eat])\n",
        memory_mib=300,
        wall_s=40.0,
    )
    assert end.killed == "memory"


def test_floods_are_bounded_and_do_not_stop_the_child(tmp_path: Path) -> None:
    end = child(
        tmp_path,
        "import os\n"
        "for _ in range(40 << 4):\n"
        "    os.write(1, b'a' * (1 << 16))\n"
        "    os.write(2, b'b' * (1 << 16))\n"
        "os.write(2, b'the end')\n",
    )
    assert end.exit_code == 0
    assert end.answer is None
    assert end.log_tail.endswith("the end")
    assert len(end.log_tail) <= LOG_TAIL_BYTES
    assert (tmp_path / "child.log").stat().st_size < 3 << 20
    failure = judged(end).failure
    assert failure is not None
    assert failure.kind == "bad_answer"


@pytest.mark.parametrize(
    "answer", ["", "nonsense", "{}x", "[]", '{"unknown": 1}', '{"size_bytes": "1"}']
)
def test_a_wrong_answer_is_a_failure(tmp_path: Path, answer: str) -> None:
    end = child(tmp_path, f"print({answer!r}, end='')")
    failure = judged(end).failure
    assert failure is not None
    assert (failure.stage, failure.kind) == ("convert", "bad_answer")


def test_an_answer_counts_even_if_the_child_crashes_while_unloading(tmp_path: Path) -> None:
    end = child(
        tmp_path,
        "import os, sys, signal\n"
        "print('{}', end='', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n",
    )
    assert end.signal_name == "SIGSEGV"
    assert judged(end).answer == Converted()


def test_an_exit_code_without_an_answer_is_a_crash(tmp_path: Path) -> None:
    end = child(tmp_path, "import sys; sys.exit('no such library')")
    failure = judged(end).failure
    assert failure is not None
    assert failure.kind == "crash"
    assert "exit code 1" in failure.message
    assert "no such library" in failure.log_tail


@pytest.mark.parametrize(
    ("reason", "kind", "transient"),
    [
        ("cancelled", "cancelled", False),
        ("lease", "lease_lost", True),
        ("shutdown", "shutdown", True),
    ],
)
def test_a_cancel_ends_the_child_at_once(
    tmp_path: Path, reason: str, kind: str, transient: bool
) -> None:
    with CancelRequest() as cancel:
        threading.Timer(0.5, cancel.set, [reason]).start()
        end = child(tmp_path, "import time; time.sleep(600)", wall_s=1.0e6, cancel=cancel)
    assert end.killed == reason
    assert end.duration_s < 0.5 + MARGIN_S + 10
    outcome = judged(end)
    assert outcome.failure is not None
    assert FAILURE_KINDS[outcome.failure.kind].status == "cancelled"
    assert (outcome.failure.kind, outcome.failure.transient) == (kind, transient)


def test_a_cancel_from_before_ends_the_child_as_well(tmp_path: Path) -> None:
    with CancelRequest() as cancel:
        cancel.set("lease")
        cancel.set("cancelled")
        end = child(tmp_path, "import time; time.sleep(600)", cancel=cancel)
    assert end.killed == "lease"


def test_the_parent_sleeps_while_the_child_works(tmp_path: Path) -> None:
    """Nothing of ours may run beside a timed loop: 3 s of a busy child cost well under 1 %."""
    before = time.thread_time()
    end = child(
        tmp_path, "import time\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass"
    )
    used_s = time.thread_time() - before
    assert end.duration_s >= 3
    assert used_s < 0.03 * end.duration_s


def test_an_interpreter_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with CancelRequest() as cancel, pytest.raises(OSError, match="no-such-python"):
        run_child(
            [str(tmp_path / "no-such-python")],
            "",
            folder=tmp_path,
            bounds=ChildLimits(1.0, 100),
            cancel=cancel,
        )


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    child(tmp_path, "pass")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        child(tmp_path, "print(1)")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_environment_is_an_allow_list() -> None:
    outer = {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "2",
        "KMP_AFFINITY": "none",
        "LC_ALL": "C",
        "SECRET_TOKEN": "x",
        "HTTPS_PROXY": "y",
        "PYTHONPATH": "z",
    }
    assert child_environment("mark", outer) == {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "2",
        "KMP_AFFINITY": "none",
        "LC_ALL": "C",
        MARK: "mark",
    }


def test_a_dead_parents_children_are_found_by_their_mark(tmp_path: Path) -> None:
    """After kill -9 of the agent nobody waits for the child any more, but it still runs."""
    source = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source],
        env=child_environment(f"{tmp_path}:1:2;"),
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
    assert proc_scan.kill_marked(MARK, f"{tmp_path}/other:") == []
    assert proc_scan.kill_marked(MARK, f"{tmp_path}:") == [orphan]
    assert gone(orphan)


def test_files_have_a_largest_size_and_a_largest_number(tmp_path: Path) -> None:
    source = f"""
import errno, json, os, resource
kept, count = [], 0
try:
    while count < {2 * OPEN_FILES}:
        kept.append(os.open("/dev/null", os.O_RDONLY))
        count += 1
except OSError as error:
    assert error.errno == errno.EMFILE, error
for fd in kept:
    os.close(fd)
with open("big", "wb") as file:
    os.ftruncate(file.fileno(), {FILE_MAX_BYTES})
    try:
        os.ftruncate(file.fileno(), {FILE_MAX_BYTES} + 1)
        larger = True
    except OSError as error:
        assert error.errno == errno.EFBIG, error
        larger = False
os.unlink("big")
print(json.dumps([count, larger, resource.getrlimit(resource.RLIMIT_CORE)]))
"""
    end = child(tmp_path, source)
    count, larger, core = json.loads(end.answer or "null")
    assert OPEN_FILES - 20 < count < OPEN_FILES, end.log_tail
    assert larger is False
    assert core == [0, 0]


def test_processes_have_a_largest_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for root: there the child becomes somebody else first, as the agent on a board is."""
    monkeypatch.setattr(rlimits, "PROCESSES_HEADROOM", 30)
    source = """
import errno, os, time
if os.getuid() == 0:
    os.setresuid(65534, 65534, 65534)
count = 0
try:
    while count < 5000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except OSError as error:
    assert error.errno == errno.EAGAIN, error
print(count, flush=True)
"""
    end = child(tmp_path, source, wall_s=60)
    assert end.answer is not None, end.log_tail
    # as whose number the limit was counted, the parent's user may have tasks of its own
    assert 0 < int(end.answer) <= proc_scan.tasks_of(os.getuid()) + 100


def test_limits_cannot_be_lifted_by_who_is_not_root(tmp_path: Path) -> None:
    source = """
import os, resource
if os.getuid() == 0:
    os.setresuid(65534, 65534, 65534)
lifted = []
for name in ("DATA", "CORE", "NOFILE", "FSIZE", "NPROC"):
    kind = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(kind)
    assert hard != resource.RLIM_INFINITY, name
    try:
        resource.setrlimit(kind, (hard + 1, hard + 1))
        lifted.append(name)
    except (ValueError, PermissionError):
        pass
print(lifted)
"""
    assert (child(tmp_path, source).answer or "").strip() == "[]"


def test_the_runner_gives_up_new_privileges(tmp_path: Path) -> None:
    """A child of the runner, as `sudo` would be, is refused them too: the flag is inherited."""
    root = Path(__file__).parents[2]
    source = f"""
import subprocess, sys
sys.path.insert(0, {str(root)!r})
from agent.privileges import give_up_privileges
give_up_privileges()
text = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
print([line for line in text.splitlines() if line.startswith("NoNewPrivs")][0].split()[1])
"""
    assert (child(tmp_path, source).answer or "").strip() == "1"
    started = (root / "agent" / "runner" / "__main__.py").read_text()
    assert started.index("give_up_privileges()") < started.index("answer_on_stdout(sys")
