"""Reads files that people send in a confined child process each: limits, no secrets, no network, no
other file (``orchestrator.inspection.child.confine``), and an answer that is data."""

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
AT_ONCE, WAITING = 2, 8
"""Files that are read at a time, and requests that wait for it: each holds one of the API's
threads, of which there are 40."""
WAIT_S = 300.0
MOST_LETTERS = 1 << 20
"""Of an answer that is no drawing: what is said of a model is kept and listed."""
MOST_SAID = 600
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "can't allocate memory", "Cannot allocate memory")

T = TypeVar("T")


class ConfinedInspector:
    """An ``Inspector``. ``home``: where a child's empty working folder is made for as long as it
    lives; ``None``: among this machine's temporary files. ``program``: the child's."""

    def __init__(
        self, home: Path | None, wall_s: float, memory_mib: int, program: Path = PROGRAM
    ) -> None:
        self._home = home
        self._wall_s = wall_s
        self._memory_mib = memory_mib
        self._program = program
        self._warned: set[str] = set()
        self._slots = threading.Semaphore(AT_ONCE)
        self._places = threading.Semaphore(AT_ONCE + WAITING)

    def __call__(self, question: Question, answer: type[T]) -> T:
        """As ``Inspector`` says; the child and all of its group are gone when this returns."""
        job = Job(answer.__name__, question, self._wall_s, self._memory_mib)
        with self._turn(question.name):
            end = self._run(codec.dumps(job))
        self._warn(end.log_tail)
        text = end.answer
        if end.killed or end.signal_name or end.exit_code not in (0, REFUSED) or text is None:
            raise self._unreadable(question.name, self._why(end))
        try:
            return understood(question, answer, end.exit_code, text)
        except codec.ContractError as error:
            raise self._unreadable(
                question.name, f"what reads it answered something else: {said(str(error))}"
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
        for lack in (NO_LANDLOCK, NO_SECCOMP):
            if lack in tail and lack not in self._warned:
                self._warned.add(lack)
                log.warning("%s", lack)

    @contextlib.contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """One of the few at a time. Raises ``Busy``."""
        busy = f"{name}: too many files are being read by the controller; try again in a minute"
        if not self._places.acquire(blocking=False):
            raise Busy(busy)
        try:
            if not self._slots.acquire(timeout=WAIT_S):
                raise Busy(busy)
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._places.release()

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
        last = said((end.log_tail.strip().splitlines() or [""])[-1])
        how = f"what reads it ended with exit code {end.exit_code}"
        return f"{how}: {last}" if end.exit_code else f"{how} and no answer"


_MEMORY = "it wanted more memory (BENCHFARM_INSPECT_MIB sets the limit)"


def understood(question: Question, answer: type[T], code: int | None, text: str) -> T:
    """The document that a child ended with.

    Raises:
        UserError: it refuses the file.
        FarmError: this machine lacks what would read it.
        MemoryError: it ran out of memory.
        ContractError: it is no such document, or too large a one.
    """
    if code == REFUSED:
        refused = codec.loads(InspectionRefused, text)
        match refused.kind:
            case "bad_input":
                raise UserError(said(refused.message))
            case "memory":
                raise MemoryError
            case "missing":
                raise FarmError(f"{question.name}: it cannot be read here: {said(refused.message)}")
        raise codec.ContractError(f"Refused.kind: {refused.kind[:40]!r}")
    if len(text) > MOST_LETTERS and answer is not Drawing:
        raise codec.ContractError(
            f"{answer.__name__}: {len(text)} letters of it, at most {MOST_LETTERS} are accepted"
        )
    return codec.loads(answer, text)


def said(text: str) -> str:
    """Text of a child as one line for people, who may read it in a terminal."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= MOST_SAID else line[: MOST_SAID - 1] + "…"
