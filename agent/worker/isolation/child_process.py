"""Run one child process with limits on time, memory and output, and leave nothing of it behind.

The parent blocks in ``poll`` on the child's pidfd, its two pipes and a cancel eventfd: while a
silent child is timed, the parent wakes only to check the group's resident memory
(measured: 0.04 ms every 2 s, and a scan of ``/proc`` of about 1 ms every 10 s, on a 2-core x86 VM).
Linux only (pidfd_open, eventfd, prlimit).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.worker.isolation import agent_cgroup, proc_scan, rlimits
from agent.worker.isolation.child_cgroup import NoCgroup

log = logging.getLogger(__name__)

MARK = "BENCHFARM_CHILD_OF"
"""Environment variable of every process of a child, by which leftover processes are found."""

MEMORY_CHECK_S = 2.0
CHECKS_PER_SCAN = 5
GRACE_S = 2.0
"""Time between SIGTERM and SIGKILL; with ``REAP_S`` the longest that a child outlives its limit."""
REAP_S = 2.0
ANSWER_MAX_BYTES = 16 << 20
LOG_MAX_BYTES = 1 << 20
LOG_TAIL_BYTES = 4096

_PASSED_EXACT = frozenset(
    (
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SHELL",
        "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    )
)  # fmt: skip
_PASSED_PREFIXES = (
    "LC_", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_", "GOTO_", "VECLIB_", "NUMEXPR_",
    "TBB_", "CUDA_", "NVIDIA_", "ORT_", "OV_", "OPENVINO_", "TF_", "TVM_", "TORCH", "MALLOC_",
    "COVERAGE_",
)  # fmt: skip


class CancelRequest:
    """A request to end the running child; it wakes the blocked parent. The first reason counts."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self.reason = ""

    def set(self, reason: str) -> None:
        """Request the end, for ``reason`` (``cancelled``, ``lease`` or ``shutdown``)."""
        with self._lock:
            if not self.reason:
                self.reason = reason
                if self._fd >= 0:
                    os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        """Readable once ``set`` was called."""
        return self._fd

    def __enter__(self) -> CancelRequest:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            os.close(self._fd)
            self._fd = -1


@dataclass(frozen=True)
class ChildLimits:
    """Wall seconds and resident mebibytes (of the whole process group) a child may use.

    ``swaps``: whether it may be swapped out; a measured child may not. ``wall_name``: the key of a
    sweep that sets ``wall_s``, for messages; empty: none does.
    """

    wall_s: float
    memory_mib: int
    swaps: bool = False
    wall_name: str = ""


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended.

    ``signal_name``: set where a signal ended it. ``killed``: why the parent ended it: ``timeout``,
    ``memory``, or the reason given to ``CancelRequest``; or why the kernel did: ``memory_group`` at
    the group's limit, ``memory_system`` where the board had no memory left. ``answer``: its stdout,
    ``None`` where that was empty or longer than ``ANSWER_MAX_BYTES``. ``stage``: what it last wrote
    to ``<folder>/stage``.
    """

    exit_code: int | None
    signal_name: str
    killed: str
    answer: str | None
    log_tail: str
    stage: str
    duration_s: float
    peak_seen_mib: float = 0.0


def child_environment(mark: str, outer: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that a child gets: those that a runtime may need, and nothing secret."""
    outer = os.environ if outer is None else outer
    passed = {
        key: value
        for key, value in outer.items()
        if key in _PASSED_EXACT or key.startswith(_PASSED_PREFIXES)
    }
    return {**passed, MARK: mark}


def run_child(
    command: Sequence[str],
    job: str,
    *,
    folder: Path,
    bounds: ChildLimits,
    cancel: CancelRequest,
    mark: str = "",
    log_name: str = "child.log",
    clock: Callable[[], float] = time.monotonic,
) -> ChildEnd:
    """Run ``command`` with ``job`` on its stdin, in a process group of its own, until it ends.

    ``folder`` is its working directory and gets the end of its stderr as ``log_name``. The child
    gets a control group of its own where this process may make one (``agent_cgroup.settle``).
    Processes of its groups or with its mark that are left when it ends are killed.

    Raises:
        OSError: the command cannot be started at all.
    """
    mark = f"{mark or folder}:{os.getpid()}:{threading.get_ident()};"
    with contextlib.ExitStack() as stack:
        stdin = stack.enter_context(tempfile.TemporaryFile())
        stdin.write(job.encode())
        stdin.seek(0)
        group = stack.enter_context(agent_cgroup.child_group(bounds.memory_mib, swaps=bounds.swaps))
        started = clock()
        command_line = group.command(command)
        child = stack.enter_context(_spawned(command_line, stdin.fileno(), folder, mark))
        rlimits.limit(child.pid, bounds.memory_mib)
        watch = _Watch(child, bounds, cancel, started + bounds.wall_s, clock)
        try:
            watch.until_end()
        finally:
            watch.end_group()
            proc_scan.kill_marked(MARK, mark)
        duration_s = clock() - started
        watch.drain()
        watch.check_kernel_kill(group)
    (folder / log_name).write_bytes(bytes(watch.log.content))
    return watch.report(folder, duration_s)


@contextlib.contextmanager
def _spawned(
    command: Sequence[str], stdin: int, folder: Path, mark: str
) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=child_environment(mark),
        start_new_session=True,
    )
    try:
        yield child
    finally:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        child.stderr.close()


class _Tail:
    """The last ``limit`` bytes of a stream, with at most twice that held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.content = bytearray()
        self.total = 0

    def add(self, chunk: bytes) -> None:
        self.content += chunk
        self.total += len(chunk)
        if len(self.content) > 2 * self._limit:
            del self.content[: -self._limit]


class _Watch:
    """The blocked parent of one child."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        bounds: ChildLimits,
        cancel: CancelRequest,
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        self._child = child
        self._bounds = bounds
        self._cancel = cancel
        self._deadline = deadline
        self._clock = clock
        self._pidfd = os.pidfd_open(child.pid)
        self.answer = _Tail(ANSWER_MAX_BYTES)
        self.log = _Tail(LOG_MAX_BYTES)
        self._pipes = {child.stdout.fileno(): self.answer, child.stderr.fileno(): self.log}
        for pipe in self._pipes:
            os.set_blocking(pipe, False)
        self._poll = select.poll()
        for descriptor in (self._pidfd, cancel.fileno(), *self._pipes):
            self._poll.register(descriptor, select.POLLIN)
        self._group = proc_scan.ProcessGroup(child.pid, CHECKS_PER_SCAN)
        self.killed = ""
        self.peak_mib = 0.0

    def until_end(self) -> None:
        """Block until the child has ended or has to be ended (then ``killed`` says why)."""
        next_check = self._clock() + MEMORY_CHECK_S
        while True:
            now = self._clock()
            if now >= self._deadline:
                self.killed = "timeout"
                return
            if now >= next_check:
                next_check = now + MEMORY_CHECK_S
                if self._over_memory():
                    self.killed = "memory"
                    return
            ready = self._wait(min(self._deadline, next_check) - now)
            if self._cancel.fileno() in ready:
                self.killed = self._cancel.reason
                return
            if self._pidfd in ready:
                return

    def end_group(self) -> None:
        """End the child if it still runs, and every process of its process group; then reap it."""
        # The number of its process group is not reused before the child is reaped, even a dead one.
        if self.killed or not self._ended(0):
            self._signal_group(signal.SIGTERM)
            self._ended(GRACE_S)
        self._signal_group(signal.SIGKILL)
        if self._ended(REAP_S):
            self._child.wait()
        else:
            log.error("child %d does not die of SIGKILL: stuck in a driver", self._child.pid)
            self._child.returncode = -signal.SIGKILL  # else Popen warns of it later
        self._close_pidfd()

    def drain(self) -> None:
        """Read what is still in the pipes, without waiting for processes that hold them open."""
        for descriptor in list(self._pipes):
            while descriptor in self._pipes and self._read(descriptor):
                pass

    def check_kernel_kill(self, group: NoCgroup) -> None:
        """Ask the ended child's control group whether the kernel killed it for lack of memory."""
        if not self.killed and (limit := group.out_of_memory()):
            self.killed = f"memory_{limit}"
            self.peak_mib = group.peak_mib() or self.peak_mib

    def report(self, folder: Path, duration_s: float) -> ChildEnd:
        code = self._child.returncode
        complete = 0 < self.answer.total <= ANSWER_MAX_BYTES
        return ChildEnd(
            exit_code=code if code >= 0 else None,
            signal_name=_signal_name(-code) if code < 0 else "",
            killed=self.killed,
            answer=self.answer.content.decode("utf-8", "replace") if complete else None,
            log_tail=self.log.content[-LOG_TAIL_BYTES:].decode("utf-8", "replace"),
            stage=read_stage(folder),
            duration_s=duration_s,
            peak_seen_mib=self.peak_mib,
        )

    def _over_memory(self) -> bool:
        resident_mib = self._group.resident_bytes() / (1 << 20)
        self.peak_mib = max(self.peak_mib, resident_mib)
        return resident_mib > self._bounds.memory_mib

    def _wait(self, seconds: float) -> set[int]:
        ready = {fd for fd, _ in self._poll.poll(max(0.0, seconds) * 1000)}
        for descriptor in ready & set(self._pipes):
            self._read(descriptor)
        return ready

    def _ended(self, seconds: float) -> bool:
        """Whether the child ends within ``seconds``. Reads its pipes meanwhile."""
        if self._cancel.fileno() >= 0:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._cancel.fileno())
        deadline = self._clock() + seconds
        while True:
            if self._pidfd in self._wait(deadline - self._clock()):
                return True
            if self._clock() >= deadline:
                return False

    def _read(self, descriptor: int) -> bool:
        """Read once; false: nothing to read now. A closed pipe is not polled again."""
        try:
            chunk = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return False
        if not chunk:
            self._poll.unregister(descriptor)
            del self._pipes[descriptor]
            return False
        self._pipes[descriptor].add(chunk)
        return True

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    def _close_pidfd(self) -> None:
        self._poll.unregister(self._pidfd)
        os.close(self._pidfd)


def read_stage(folder: Path) -> str:
    """The stage that a child last announced in ``folder``; empty: none."""
    try:
        return (folder / "stage").read_text("utf-8", "replace").strip()[:40]
    except OSError:
        return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
