"""Confined readers in tests: their answers, their errors, and the processes that they leave."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import CheckedFile, Question
from orchestrator.inspection.client import ConfinedInspector

ROOT = Path(__file__).parents[2]
TFLITE = ROOT / "tests" / "fixtures" / "tflite" / "nhwc.tflite"
MIB = 512


def landlock_works() -> bool:
    """Whether Landlock and seccomp work here; tried in a process of its own, which they confine."""
    source = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "from agent.privileges import give_up_privileges; give_up_privileges()\n"
        "from orchestrator.inspection.child import landlock, seccomp\n"
        "sys.exit(0 if landlock.read_only([]) and seccomp.refuse_calls() else 1)"
    )
    return subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


def json_answer(reader: ConfinedInspector, question: Question) -> Any:
    """The JSON that the reader gave as its answer's format."""
    return json.loads(reader(question, CheckedFile).format)


def refusal(reader: ConfinedInspector, question: Question, answer: type[Any] = CheckedFile) -> str:
    """The error's message, which is one line; no process and no folder of the child may be left."""
    home = reader._home
    assert home is not None
    with pytest.raises(UserError) as caught:
        reader(question, answer)
    assert list(home.iterdir()) == []
    assert processes_below(home) == []
    message = str(caught.value)
    assert message.startswith(question.name)
    assert "\n" not in message
    return message


def processes_below(home: Path | None) -> list[psutil.Process]:
    """Processes whose working folder is below ``home``, whatever their parent is now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd().startswith(f"{home}/"):
                found.append(process)
    return found


def child_of(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = psutil.Process(pid).children()
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError("the controller started no child")


def is_confined(process: psutil.Process) -> bool:
    """Whether the child has its seccomp filter, which is installed last."""
    return "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text()
