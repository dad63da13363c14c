"""Readers that hang, crash, exhaust memory or answer nonsense end as one error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.domain.file_inspection import Question
from orchestrator.inspection.client import ConfinedInspector
from support.confined_readers import refusal

LOOPS = {"computes": "while True: pass", "sleeps": "import time; time.sleep(600)"}


@pytest.mark.parametrize("source", LOOPS.values(), ids=LOOPS)
def test_an_endless_reader_is_ended(
    evil: Callable[..., ConfinedInspector], question: Question, source: str
) -> None:
    message = refusal(evil(source, wall_s=2), question)
    assert message == (
        "mine.tflite: it could not be read within 2 s and 512 MiB: it was not done by then "
        "(BENCHFARM_INSPECT_S sets the limit)"
    )


def test_processor_time_is_bounded_by_the_kernel_too(
    evil: Callable[..., ConfinedInspector], question: Question
) -> None:
    """A controller that has gone no longer watches the clock."""
    lenient = "from orchestrator.inspection.child import confine, rlimits\n"
    lenient += "real = rlimits.limit\n"
    lenient += "confine.rlimits.limit = lambda wall_s, mib, size: real(0.5, mib, size)"
    message = refusal(evil("while True: pass", prelude=lenient), question)
    assert "was not done by then" in message


MEMORY = {
    "allocates": "bytearray(50 << 30)",
    "maps": "import mmap; mmap.mmap(-1, 50 << 30)",
    "grows": "held = []\nwhile True: held.append(bytes(1 << 20))",
    "shares": "import mmap\nheld = []\nwhile True: held.append(mmap.mmap(-1, 1 << 26))",
}


@pytest.mark.parametrize("source", MEMORY.values(), ids=MEMORY)
def test_memory_is_bounded(
    evil: Callable[..., ConfinedInspector], question: Question, source: str
) -> None:
    assert "it wanted more memory" in refusal(evil(source), question)


ENDS = {
    "segfault": ("import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV"),
    "abort": ("os.abort()", "was ended by SIG"),
    "exit": ("os._exit(7)", "ended with exit code 7"),
    "silence": ("os._exit(0)", "exit code 0 and no answer"),
    "exception": ("raise ValueError('odd \\x1b[31m thing')", "ValueError: odd  [31m thing"),
    "recursion": ("read(question)", "RecursionError"),
    "other answer": (
        "return {'svg': '<svg/>'}",
        "answered something else: CheckedFile: unknown key",
    ),
    "wrong type": ("return CheckedFile(5, 'fp32')", "CheckedFile.format: expected str, found 5"),
    "much": ("return CheckedFile('x' * (2 << 20), 'fp32')", "letters of it, at most 1048576"),
    "endless": ("return CheckedFile('x' * (20 << 20), 'fp32')", "exit code 0 and no answer"),
    "noise": (
        "for fd in range(3, 9):\n"
        "    try: os.write(fd, b'\\x80\\x04]q\\x00.')\n"
        "    except OSError: pass\n"
        "os._exit(0)",
        "CheckedFile: not JSON",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "says"), ENDS.values(), ids=ENDS)
def test_a_reader_that_ends_badly(
    evil: Callable[..., ConfinedInspector], question: Question, source: str, says: str
) -> None:
    message = refusal(evil(source), question)
    assert message.startswith("mine.tflite: it could not be read within 60 s and 512 MiB: ")
    assert says in message
