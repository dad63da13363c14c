"""Every command block of README and documentation, typed as it stands.

One folder plays the reader's: it holds the files that the pages name (``my.onnx``, ``net.keras``,
``sweep.yaml`` …), and a controller runs with its home where the README puts it. What needs another
machine, or hours, is listed with the test that runs the same there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.cli import Shell, running
from support.documented import PAGES, ROOT, Typed, typed
from support.documented_files import write_files
from support.environments import python_of
from support.runner_child import require

BIN = Path(sys.executable).parent
RUNTIMES = ("onnxruntime", "openvino", "tflite", "tensorflow", "pytorch")
LIMIT_S = 280.0

ELSEWHERE = {
    r"make (test|lint|format)": ".ci/run",
    r"make (demo|bench|runtimes)": "tests/acceptance/test_main_job.py",
    r"make (chaos|storm)": "tests/chaos/__main__.py",
    r"(git clone|python3.11 -m venv|pip install|\. \.venv/bin/activate)": "Makefile",
    r"python -m pytest tests/unit": ".ci/run",
    r"(cp -r tests/fixtures/toy|\.venv/bin/)": "tests/integration/test_toy_runtime.py",
    r"(BENCHFARM_BROKER_URL=\S+ )?benchfarm up": "tests/support/cli.py",
    r"benchfarm device (add|upgrade|retire)": "tests/boards/test_register.py",
    r"PIP_NO_INDEX=1 .* benchfarm device add": "tests/boards/test_register.py",
    r"benchfarm inventory": "tests/boards/test_inventory.py",
    r"python -m tests.farm": "tests/boards/test_farm.py",
    r"benchfarm-agent (join|run)": "tests/integration/test_tls.py",
    r"sudo(edit)? ": "tests/boards/conftest.py",
    r"pip download": "tests/support/wheels.py",
    r"benchfarm-agent runtimes (add|remove) openvino==": "tests/acceptance/test_versions.py",
    r"benchfarm-agent runtimes add .*--wheelhouse": "tests/integration/test_runtimes.py",
    r"benchfarm-agent runtimes add (tensorflow|pytorch|tflite)": "tests/build_runtimes.py",
    r"benchfarm-agent runtimes add tensorrt": "tests/contract/runtimes/test_tensorrt.py",
    r"benchfarm model show .*--netron": "tests/acceptance/test_network.py",
    r"benchfarm events -f": "tests/acceptance/test_data.py",
    r".*db restore": "tests/acceptance/test_data.py",
    r"export BENCHFARM_(?!AGENT_HOME)": "tests/integration/test_tls.py",
    r"python examples/ci_gate.py": "tests/acceptance/test_examples.py",
    r"benchfarm zoo build (resnet50|.* --format)": "tests/contract/test_zoo_keras.py",
    r"docs/builders.md benchfarm sweep plan": "tests/acceptance/test_builders.py",
    r"benchfarm broker acl": "tests/acceptance/test_security.py",
    r"(uname|tr) ": "tests/unit/facts",
}
"""Commands that this test does not type → the file that runs the same."""

ADAPTED = {
    "10.0.0.1": "127.0.0.1",
    " mobilenet_v2": " digits_cnn",  # as README's sweep, and the examples' models: too slow here
    "/backups/": "backups/",
    "/tmp/farm": "backups/farm",
    "/etc/redis/": "",
    "tag x86-01": "tag my-laptop",
    "selftest bench": "selftest my-laptop",
    "examples/compare-runtimes.yaml": "compare-runtimes.yaml",
}
"""A page's words → this folder's."""

MORE = {
    "benchfarm model remove net": "--yes",  # nobody answers its question here
    "benchfarm model formats digits_cnn": "--device my-laptop --trials 1 --backend onnxruntime",
}


@dataclass(frozen=True)
class Reader:
    """Somebody who types what the pages say."""

    folder: Path
    shell: Shell

    def types(self, line: Typed) -> str:
        """Run a command line; it must succeed. Returns what it printed."""
        command = line.command
        for theirs, ours in ADAPTED.items():
            command = command.replace(theirs, ours)
        command += "".join(f" {more}" for start, more in MORE.items() if command.startswith(start))
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.shell.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        said = f"{ended.stdout}{ended.stderr}"
        assert ended.returncode == 0, f"{line.where}: {command}: {ended.returncode}\n{said}"
        return ended.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    for runtime in RUNTIMES:
        require(runtime)
    home = tmp_path_factory.mktemp("reader")
    state = home / ".local/share/benchfarm"
    for runtime in RUNTIMES:
        words = ["runtimes", "add", runtime, "--python", python_of(runtime)]
        command = [str(BIN / "benchfarm-agent"), *words, "--state-dir", str(state / "agent")]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
    folder = home / "work"
    folder.mkdir()
    settings = {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}
    settings["BENCHFARM_AGENT_HOME"] = str(state / "agent")
    with running(state, ("--local-agent", "--name", "my-laptop"), **settings) as shell:
        found = Reader(folder, replace(shell, home=folder))
        found.shell.fine("zoo", "build", "digits_cnn")
        write_files(folder)
        yield found


def elsewhere(line: Typed) -> str:
    """The file that runs this command instead; empty for one that is typed here."""
    found = (file for start, file in ELSEWHERE.items() if matches(start, line))
    return next(found, "")


def matches(start: str, line: Typed) -> bool:
    """Whether a pattern of the list begins a command, or ``PAGE COMMAND``."""
    return bool(re.match(start, line.command) or re.match(start, f"{line.page} {line.command}"))


HERE = {
    page.relative_to(ROOT).as_posix(): lines
    for page in PAGES
    if (lines := [line for line in typed(page) if not elsewhere(line)])
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", HERE)
def test_commands_do_what_the_page_says(reader: Reader, page: str) -> None:
    for line in HERE[page]:
        printed = reader.types(line)
        missing = [name for name in columns(line) if name not in printed]
        assert missing == [], f"{line.where}: {line.command} printed\n{printed}"


def columns(line: Typed) -> list[str]:
    """The columns of the table that the page shows below a command."""
    first = line.printed[0] if line.printed else ""
    names = re.split(r" {2,}", first)
    return names if len(names) > 2 else []


def test_the_list_of_what_runs_elsewhere_is_right() -> None:
    """Each of its commands stands in a page, and each of its files is there."""
    lines = [line for page in PAGES for line in typed(page)]
    stale = [start for start in ELSEWHERE if not any(matches(start, line) for line in lines)]
    assert stale == []
    assert [file for file in ELSEWHERE.values() if not (ROOT / file).exists()] == []
