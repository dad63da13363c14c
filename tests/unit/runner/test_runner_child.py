"""The child as a process: its answer stays whole, whatever is printed, raised or sent to it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import agent
from agent.contract import codec
from agent.contract.child_jobs import Converted, Probed, Referenced
from agent.contract.trial import Failure, TrialResult
from agent.runner.commands import failure_of
from agent.runtimes import registry

MAIN = Path(agent.__file__).parent / "runner" / "__main__.py"
NOISY = """
import os, sys
from agent.runner import commands

def noisy(text):
    print("a vendor's banner")
    os.write(1, b"a banner from C\\n")
    os.system("echo a banner from a grandchild")
    print("stdin is", repr(sys.stdin.read()))
    return '{"got": %s}' % text

commands.COMMANDS["probe"] = noisy
import atexit
atexit.register(lambda: os.abort())
commands.answer_on_stdout("probe")
"""


def child(*arguments: str, job: str = "", main: Path = MAIN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(main), *arguments],
        input=job,
        capture_output=True,
        text=True,
        check=False,
    )


def test_stray_prints_go_to_stderr_and_a_crash_on_exit_spoils_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOISY], input="7", capture_output=True, text=True, check=False
    )
    assert done.stdout == '{"got": 7}\n'
    assert done.returncode == 0
    for word in ("a vendor's banner", "from C", "from a grandchild", "stdin is ''"):
        assert word in done.stderr


@pytest.mark.parametrize(
    ("verb", "cls"), [("trial", TrialResult), ("convert", Converted), ("reference", Referenced)]
)
@pytest.mark.parametrize("job", ["", "no json", "{}", '{"surprise": 1}', "\udcff"])
def test_a_bad_job_is_an_answer(verb: str, cls: type[Any], job: str) -> None:
    done = child(verb, job=job.encode("utf-8", "surrogateescape").decode("latin-1"))
    assert done.returncode == 0
    answer: Any = codec.loads(cls, done.stdout)
    failure: Failure = answer.failure
    assert (failure.stage, failure.kind) == ("environment", "bad_request")
    assert getattr(answer, "status", "failed") == "failed"


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("probe", "probe")])
def test_an_unknown_verb_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    done = child(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "probe|convert|trial|reference" in done.stderr


def test_probe_answers_for_every_backend_file() -> None:
    done = child("probe", job="{}")
    found = codec.loads(Probed, done.stdout).runtimes
    assert tuple(facts.backend for facts in found) == registry.backend_names()
    for facts in found:
        assert facts.missing or (facts.version and facts.targets and facts.accepts)


def test_the_package_is_found_from_the_files_own_place(tmp_path: Path) -> None:
    """Another ``agent`` on the interpreter's path must not be taken for it."""
    source = Path(agent.__file__).parent
    copy = tmp_path / "elsewhere" / "agent"
    for folder in ("contract", "formats", "runner", "runtimes"):
        shutil.copytree(
            source / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("privileges.py", "statistics.py"):
        shutil.copy(source / name, copy)
    (copy / "__init__.py").write_text('__version__ = "of the copy"\n')
    done = child("trial", main=copy / "runner" / "__main__.py")
    assert codec.loads(TrialResult, done.stdout).agent_version == "of the copy"


@pytest.mark.parametrize(
    ("error", "kind", "transient"),
    [
        (MemoryError(), "out_of_memory", False),
        (RuntimeError("std::bad_alloc"), "out_of_memory", False),
        (OSError(28, "No space left on device"), "io", True),
        (ZeroDivisionError("x"), "internal", False),
    ],
)
def test_any_exception_becomes_a_failure(error: Exception, kind: str, transient: bool) -> None:
    failure = failure_of(error, "load")
    assert (failure.stage, failure.kind, failure.transient) == ("load", kind, transient)
    assert failure.message
