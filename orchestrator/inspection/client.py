"""Has each uploaded file read by a confined child process, which has resource limits and no access
to secrets, the network or other files (``orchestrator.inspection.child.confine``)."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent.contract import codec
from orchestrator.domain.errors import Busy, FarmError, UserError
from orchestrator.domain.file_inspection import (
    NO_LANDLOCK,
    NO_SECCOMP,
    REFUSED,
    Drawing,
    InspectionRefused,
    Job,
    Question,
)

if TYPE_CHECKING:
    from agent.worker.isolation.child_process import ChildEnd

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).parent / "child" / "__main__.py"
MAX_RUNNING, MAX_WAITING = 2, 8
"""Files that are read concurrently, and requests that wait: each occupies one of the API's 40
threads."""
WAIT_S = 300.0
MAX_ANSWER_CHARACTERS = 1 << 20
"""Bound for all answers but drawings, because they are stored and listed with the model."""
MAX_LINE_CHARACTERS = 600
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "can't allocate memory", "Cannot allocate memory")

T = TypeVar("T")


class ConfinedInspector:
    """An ``Inspector``. ``home``: parent of the children's empty, temporary working folders;
    ``None``: the system's temporary folder. ``program``: the child's main file."""

    def __init__(
        self, home: Path | None, wall_s: float, memory_mib: int, program: Path = PROGRAM
    ) -> None:
        self._home = home
        self._wall_s = wall_s
        self._memory_mib = memory_mib
        self._program = program
        self._warned: set[str] = set()
        self._slots = threading.Semaphore(MAX_RUNNING)
        self._queue = threading.Semaphore(MAX_RUNNING + MAX_WAITING)

    def __call__(self, question: Question, answer: type[T]) -> T:
        """See ``Inspector``. When this returns, the child and its process group have ended."""
        job = Job(answer.__name__, question, self._wall_s, self._memory_mib)
        with self._slot(question.name):
            end = self._run(codec.dumps(job))
        self._warn(end.log_tail)
        text = end.answer
        if end.killed or end.signal_name or end.exit_code not in (0, REFUSED) or text is None:
            raise self._unreadable(question.name, self._why(end))
        try:
            return decode_answer(question, answer, end.exit_code, text)
        except codec.ContractError as error:
            raise self._unreadable(
                question.name,
                f"what reads it answered something else: {one_line(str(error))}",
            ) from None
        except MemoryError:
            raise self._unreadable(question.name, _MEMORY) from None

    def _run(self, job: str) -> ChildEnd:
        from agent.worker.isolation.child_process import CancelRequest, ChildLimits, run_child

        try:
            with (
                tempfile.TemporaryDirectory(prefix="inspect-", dir=self._home) as folder,
                CancelRequest() as cancel,
            ):
                return run_child(
                    [sys.executable, "-I", str(self._program)],
                    job,
                    folder=Path(folder),
                    bounds=ChildLimits(self._wall_s, self._memory_mib),
                    cancel=cancel,
                )
        except OSError as error:
            raise FarmError(f"no file can be read here: {error}") from None

    def _warn(self, tail: str) -> None:
        for message in (NO_LANDLOCK, NO_SECCOMP):
            if message in tail and message not in self._warned:
                self._warned.add(message)
                log.warning("%s", message)

    @contextlib.contextmanager
    def _slot(self, name: str) -> Iterator[None]:
        """Wait for one of the slots. Raises ``Busy``."""
        busy = f"{name}: too many files are being read by the controller; try again in a minute"
        if not self._queue.acquire(blocking=False):
            raise Busy(busy)
        try:
            if not self._slots.acquire(timeout=WAIT_S):
                raise Busy(busy)
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._queue.release()

    def _unreadable(self, name: str, why: str) -> UserError:
        limits = f"{self._wall_s:g} s and {self._memory_mib} MiB"
        return UserError(f"{name}: it could not be read within {limits}: {why}")

    def _why(self, end: ChildEnd) -> str:
        if end.killed == "timeout" or end.signal_name == "SIGXCPU":
            return "it was not done by then (BENCHFARM_INSPECT_S sets the limit)"
        if end.killed == "memory" or any(word in end.log_tail for word in _OUT_OF_MEMORY):
            return _MEMORY
        if end.signal_name:
            return f"what reads it was ended by {end.signal_name}"
        last = one_line((end.log_tail.strip().splitlines() or [""])[-1])
        outcome = f"what reads it ended with exit code {end.exit_code}"
        return f"{outcome}: {last}" if end.exit_code else f"{outcome} and no answer"


_MEMORY = "it wanted more memory (BENCHFARM_INSPECT_MIB sets the limit)"


def decode_answer(question: Question, answer: type[T], code: int | None, text: str) -> T:
    """Decode what a child wrote, by its exit code.

    Raises:
        UserError: the child refuses the file.
        FarmError: a package that reads it is not installed.
        MemoryError: the child ran out of memory.
        ContractError: not the expected document, or it is too large.
    """
    if code == REFUSED:
        refused = codec.loads(InspectionRefused, text)
        match refused.kind:
            case "bad_input":
                raise UserError(one_line(refused.message))
            case "memory":
                raise MemoryError
            case "missing":
                raise FarmError(
                    f"{question.name}: it cannot be read here: {one_line(refused.message)}"
                )
        raise codec.ContractError(f"Refused.kind: {refused.kind[:40]!r}")
    if len(text) > MAX_ANSWER_CHARACTERS and answer is not Drawing:
        raise codec.ContractError(
            f"{answer.__name__}: {len(text)} letters of it, at most {MAX_ANSWER_CHARACTERS} are "
            "accepted"
        )
    return codec.loads(answer, text)


def one_line(text: str) -> str:
    """Text of a child as one printable line, safe for a terminal."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= MAX_LINE_CHARACTERS else line[: MAX_LINE_CHARACTERS - 1] + "…"
