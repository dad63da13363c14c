"""Building environments: whole or not at all, named by content, reused; the tools are played."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.contract.child_jobs import Probed
from agent.contract.device import RuntimeFacts
from agent.runtimes.manifest import Recipe
from agent.worker import cli_support
from agent.worker.environments import package_tools
from agent.worker.environments.builder import EnvironmentBuilder
from agent.worker.environments.commands import RuntimeCommands
from agent.worker.environments.environments import Environments
from agent.worker.environments.package_tools import CommandOutput, PackageTool
from agent.worker.environments.recipes import RuntimeRequirement, parse
from agent.worker.errors import (
    AgentError,
    BadInput,
    BuildFailed,
    ChildFailed,
    DiskFull,
    EnvironmentMissing,
    IndexUnreachable,
)


class Tools:
    """A package tool that makes empty environments, and an interpreter that answers in them."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fails: dict[str, CommandOutput | BaseException] = {}
        self.pins = [["onnxruntime", "1.31.1"], ["pip", "23"]]
        self.facts: dict[str, RuntimeFacts | AgentError] = {}
        self.cuda = ""
        self.gpu = False

    def run(self, words: Sequence[str], folder: Path) -> CommandOutput:
        self.calls.append(list(words))
        for word, what in self.fails.items():
            if word in words:
                if isinstance(what, BaseException):
                    raise what
                return what
        if "venv" in words:
            made = Path(words[-1])
            (made / "bin").mkdir(parents=True)
            (made / "bin" / "python").symlink_to(sys.executable)
            (made / "bin" / "tool").write_text(f"#!{made}/bin/python\n")
            (made / "pyvenv.cfg").write_text("home = /usr/bin\n")
        if "-c" not in words:
            return CommandOutput(0, "")
        return CommandOutput(
            0, json.dumps(self.pins) if words[-1] == package_tools._FREEZE else self.cuda
        )

    def probe(self, python: str) -> Probed:
        assert os.access(python, os.X_OK)
        found = self.facts.get("*") or RuntimeFacts("onnxruntime", self.version(python), "")
        if isinstance(found, AgentError):
            raise found
        return Probed((found,))

    def version(self, python: str) -> str:
        settled = re.search(r"/onnxruntime-([0-9.]+)-", python)
        if settled:
            return settled.group(1)
        pinned = [w for call in self.calls for w in call if w.startswith("onnxruntime==")]
        return pinned[-1].partition("==")[2] if pinned else "1.31.1"


@pytest.fixture
def tools() -> Tools:
    return Tools()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def runtimes(tmp_path: Path, tools: Tools) -> RuntimeCommands:
    ticks = iter(range(0, 10_000, 5))
    builder = EnvironmentBuilder(
        tmp_path / "runtimes",
        tools.probe,
        PackageTool("/bin/uv", tools.run),
        clock=lambda: float(next(ticks)),
        gpu=lambda: tools.gpu,
    )
    return RuntimeCommands(tmp_path, Environments(tmp_path, tools.probe), builder)


def left(runtimes: RuntimeCommands) -> list[str]:
    folder = runtimes.state_dir / "runtimes"
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_what_is_built_is_listed_with_its_pins_and_its_cost(
    runtimes: RuntimeCommands, notes: list[str]
) -> None:
    added = runtimes.build("onnxruntime", None, notes.append)
    assert left(runtimes) == [added.name]
    assert Path(added.python) == runtimes.state_dir / "runtimes" / added.name / "env/bin/python"
    manifest = runtimes.builder.manifest(added.name)
    assert manifest is not None
    assert manifest.pins == ("onnxruntime==1.31.1",)
    assert (manifest.version, manifest.build_s, manifest.tool) == ("1.31.1", 5.0, "uv")
    assert runtimes.environments.listed() == [added]
    assert notes[-1].startswith(f"onnxruntime==1.31.1: built {added.name} in 5.0 s, ")
    listed = {each.facts.backend: each for each in runtimes.listing()}
    assert listed["onnxruntime"].built == manifest


def test_scripts_name_the_place_where_the_environment_ends_up(runtimes: RuntimeCommands) -> None:
    added = runtimes.build("onnxruntime", None, print)
    script = Path(added.python).with_name("tool")
    assert script.read_text() == f"#!{added.python}\n"


def test_the_same_is_reused_without_a_call(runtimes: RuntimeCommands, tools: Tools) -> None:
    first = runtimes.build("onnxruntime", None, print)
    tools.calls.clear()
    assert runtimes.build("onnxruntime==1.31.1", None, print) == first
    assert tools.calls == []


def test_one_that_was_built_but_never_listed_is_found_again(
    runtimes: RuntimeCommands, tools: Tools
) -> None:
    first = runtimes.build("onnxruntime", None, print)
    runtimes.environments.remove(first.name)  # a power cut between the two
    tools.calls.clear()
    assert runtimes.build("onnxruntime", None, print) == first
    assert tools.calls == []
    assert runtimes.environments.listed() == [first]


def test_one_whose_interpreter_is_gone_is_built_anew(
    runtimes: RuntimeCommands, tools: Tools
) -> None:
    first = runtimes.build("onnxruntime", None, print)
    os.unlink(first.python)
    tools.calls.clear()
    assert runtimes.build("onnxruntime", None, print) == first
    assert tools.calls
    assert os.access(first.python, os.X_OK)


def test_versions_stand_side_by_side_and_have_other_names(runtimes: RuntimeCommands) -> None:
    one = runtimes.build("onnxruntime", None, print)
    other = runtimes.build("onnxruntime==1.20.1", None, print)
    assert one.name != other.name
    assert len(left(runtimes)) == 2
    assert runtimes.environments.resolve("onnxruntime", "1.20").python == other.python
    assert runtimes.environments.resolve("onnxruntime").python == one.python


def test_the_name_is_of_the_content(runtimes: RuntimeCommands, tools: Tools) -> None:
    first = runtimes.build("onnxruntime", None, print)
    runtimes.remove(first.name, print)
    tools.pins.append(["numpy", "9"])
    second = runtimes.build("onnxruntime", None, print)
    assert first.name != second.name
    assert first.name.startswith("onnxruntime-1.31.1-")


@pytest.mark.parametrize("text", ["onnxruntime", "onnxruntime==1.31.1", None])
def test_removing_deletes_what_was_built(runtimes: RuntimeCommands, text: str | None) -> None:
    added = runtimes.build("onnxruntime", None, print)
    runtimes.remove(text or added.name, print)
    assert left(runtimes) == []
    assert runtimes.environments.listed() == []
    with pytest.raises(BadInput, match="listed are: none"):
        runtimes.remove(added.name, print)


def test_removing_leaves_an_interpreter_that_was_only_named(
    runtimes: RuntimeCommands, tmp_path: Path
) -> None:
    python = tmp_path / "vendor" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    added = runtimes.add("onnxruntime", str(python), print)
    runtimes.remove(added.name, print)
    assert python.exists()
    assert runtimes.environments.listed() == []


def test_removing_asks_which_of_several(runtimes: RuntimeCommands) -> None:
    runtimes.build("onnxruntime", None, print)
    runtimes.build("onnxruntime==1.20.1", None, print)
    with pytest.raises(BadInput, match="several environments; choose from: onnxruntime-1"):
        runtimes.remove("onnxruntime", print)


NO_VERSION = "error: No solution found\n  cause: there is no version of onnxruntime==9.9"
OFFLINE = "error: Request failed\n  cause: Failed to fetch: https://me:secret@index/simple/"


@pytest.mark.parametrize(
    ("word", "what", "expected", "says"),
    [
        ("install", CommandOutput(1, "", NO_VERSION), BadInput, "no version of onnxruntime==9.9"),
        ("install", CommandOutput(2, "", OFFLINE), IndexUnreachable, "--wheelhouse DIR"),
        (
            "install",
            CommandOutput(1, "", "No space left on device (os error 28)"),
            DiskFull,
            "full",
        ),
        ("install", CommandOutput(1, "", "error: compiler broke"), BuildFailed, "compiler broke"),
        ("install", CommandOutput(-9, "", ""), BuildFailed, "without a word"),
        ("venv", CommandOutput(1, "ensurepip is not available", ""), BuildFailed, "python3-venv"),
        ("venv", OSError(errno.ENOSPC, "full"), DiskFull, "no space left"),
        ("install", KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
)
def test_what_fails_says_why_and_leaves_nothing(
    runtimes: RuntimeCommands,
    tools: Tools,
    word: str,
    what: CommandOutput | BaseException,
    expected: type[BaseException],
    says: str,
) -> None:
    tools.fails[word] = what
    with pytest.raises(expected) as raised:
        runtimes.build("onnxruntime==9.9", None, print)
    assert says in str(raised.value)
    assert "secret" not in str(raised.value)
    assert left(runtimes) == []
    assert runtimes.environments.listed() == []


@pytest.mark.parametrize(
    ("answer", "expected", "says"),
    [
        (RuntimeFacts("onnxruntime", "", "", missing="no lib"), EnvironmentMissing, "no lib"),
        (RuntimeFacts("other", "1", ""), EnvironmentMissing, "the runner has no backend"),
        (RuntimeFacts("onnxruntime", "1.30.0", ""), EnvironmentMissing, "answers as 1.30.0"),
        (ChildFailed("the child crashed"), ChildFailed, "crashed"),
    ],
)
def test_a_backend_that_does_not_answer_is_not_kept(
    runtimes: RuntimeCommands,
    tools: Tools,
    answer: RuntimeFacts | AgentError,
    expected: type[AgentError],
    says: str,
) -> None:
    tools.facts["*"] = answer
    with pytest.raises(expected, match=says):
        runtimes.build("onnxruntime", None, print)
    assert left(runtimes) == []


def test_too_little_space_is_said_before_anything_is_fetched(
    runtimes: RuntimeCommands, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(runtimes.state_dir)._replace(free=10 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(DiskFull, match=r"needs about 550 MiB, and .* has 10 MiB free"):
        runtimes.build("openvino", None, print)
    assert tools.calls == []


def test_what_a_power_cut_left_is_swept_away(runtimes: RuntimeCommands) -> None:
    stale = runtimes.state_dir / "runtimes" / "tmp-abc" / "env"
    stale.mkdir(parents=True)
    added = runtimes.build("onnxruntime", None, print)
    assert left(runtimes) == [added.name]


def test_a_wheelhouse_must_hold_wheels(runtimes: RuntimeCommands, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        runtimes.build("onnxruntime", tmp_path / "none", print)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no wheels in it"):
        runtimes.build("onnxruntime", tmp_path / "empty", print)


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "x.whl").touch()
    return folder


def test_with_a_wheelhouse_no_index_is_asked(
    runtimes: RuntimeCommands, tools: Tools, wheelhouse: Path
) -> None:
    runtimes.build("onnxruntime", wheelhouse, print)
    (install,) = [call for call in tools.calls if "install" in call]
    assert {"--no-index", "--offline"} <= set(install)
    assert install[install.index("--find-links") + 1] == str(wheelhouse)


def test_without_uv_venv_and_pip_do_it(tools: Tools, tmp_path: Path, wheelhouse: Path) -> None:
    builder = EnvironmentBuilder(tmp_path / "r", tools.probe, PackageTool("", tools.run))
    manifest = builder.build(parse("onnxruntime"), wheelhouse, print)
    assert manifest.tool == "venv and pip"
    made, install, _ = tools.calls
    assert made[:4] == [sys.executable, "-I", "-m", "venv"]
    assert install[1:5] == ["-I", "-m", "pip", "install"]
    assert "--no-index" in install


def test_torch_is_installed_by_pip_first_and_alone(runtimes: RuntimeCommands, tools: Tools) -> None:
    tools.facts["*"] = RuntimeFacts("pytorch", "2.13.0+cpu", "")
    runtimes.build("pytorch", None, print)
    made, first, second, *_ = tools.calls
    assert "uv" not in made[0]
    assert "pip" in first
    assert first[-1] == "torch==2.13.0"
    assert first[-2].startswith("o")  # --progress-bar off: nothing else is asked for
    assert second[0] == "/bin/uv"


def test_the_tested_version_is_held_to_its_lock_file(
    tools: Tools, runtimes: RuntimeCommands, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a-1-py3-none-any.whl").touch()
    runtimes.build("onnxruntime", None, print)
    runtimes.build("onnxruntime==1.30.0", None, print)
    runtimes.build("onnxruntime==1.29.0", tmp_path / "wheels", print)
    tested, other, wheels = (call for call in tools.calls if "install" in call)
    assert tested[tested.index("--constraint") + 1] == str(parse("onnxruntime").lock)
    assert "--constraint" not in other + wheels


def test_of_torchs_steps_the_one_that_takes_its_build_is_free(
    tools: Tools, runtimes: RuntimeCommands
) -> None:
    tools.facts["*"] = RuntimeFacts("pytorch", "2.13.0", "")
    runtimes.build("pytorch", None, print)
    first, second = (call for call in tools.calls if "install" in call)
    assert "--constraint" not in first
    assert str(parse("pytorch").lock) in second


def test_another_lock_file_makes_another_environment(
    tools: Tools, runtimes: RuntimeCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes.build("onnxruntime", None, print)
    before = len(tools.calls)
    runtimes.build("onnxruntime", None, print)
    assert len(tools.calls) == before
    newer = tmp_path / "newer.lock"
    newer.write_text("onnxruntime==1.31.1\n")
    monkeypatch.setattr(RuntimeRequirement, "lock", newer)
    runtimes.build("onnxruntime", None, print)
    assert len(tools.calls) > before


def test_what_is_installed_bare_is_so_alone(runtimes: RuntimeCommands, tools: Tools) -> None:
    tools.facts["*"] = RuntimeFacts("ncnn", "1.0.20261020", "")
    runtimes.build("ncnn", None, print)
    first, last = (call for call in tools.calls if "install" in call)
    assert "--no-deps" not in first
    assert last[-2:] == ["--no-deps", "pnnx==20261020"]


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("version", ["13.0", ""])
def test_a_cuda_build_is_told_where_there_is_no_gpu(
    runtimes: RuntimeCommands, tools: Tools, notes: list[str], version: str, gpu: bool
) -> None:
    tools.cuda, tools.gpu = f"{version}\n", gpu
    tools.facts["*"] = RuntimeFacts("pytorch", "2.13.0", "")
    added = runtimes.build("pytorch", None, notes.append)
    warned = [note for note in notes if note.startswith("warning: ")]
    listed = next(each for each in runtimes.listing() if each.built)
    assert bool(warned) is bool(listed.warning) is bool(version and not gpu)
    if not warned:
        return
    assert warned == [f"warning: {listed.warning}"]
    for word in ("CUDA 13.0", added.name, "PIP_EXTRA_INDEX_URL=", "no NVIDIA GPU"):
        assert word in listed.warning
    assert listed.warning in cli_support.listed_rows([listed])[0][-1]
    notes.clear()
    assert runtimes.build("pytorch", None, notes.append) == added  # also of what is here already
    assert notes[-1] == warned[0]


def test_a_manifest_of_before_says_nothing_of_cuda(runtimes: RuntimeCommands) -> None:
    added = runtimes.build("onnxruntime", None, print)
    path = runtimes.state_dir / "runtimes" / added.name / "manifest.json"
    older = json.loads(path.read_text())
    del older["cuda"]
    path.write_text(json.dumps(older))
    manifest = runtimes.builder.manifest(added.name)
    assert manifest is not None
    assert runtimes.builder.warning(manifest) == ""


@pytest.mark.parametrize("version", ["13.0", None])
def test_torchs_own_note_of_its_build_is_read(tmp_path: Path, version: str | None) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    tools = PackageTool("")
    assert tools.cuda(tmp_path / "env") == ""  # no torch
    (site,) = (tmp_path / "env").glob("lib/*/site-packages")
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text("raise ImportError('takes seconds')\n")
    (site / "torch" / "version.py").write_text(f"cuda: str | None = {version!r}\n")
    assert tools.cuda(tmp_path / "env") == (version or "")


def test_an_older_python_is_looked_for_where_the_package_needs_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = Recipe("old", "1", newest_python=(3, 9))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")

    def command(words: Sequence[str], folder: Path) -> CommandOutput:
        works = words[0].endswith("3.8")  # 3.9 is a shim that leads nowhere
        return CommandOutput(0, "3.8.20\n") if works else CommandOutput(127, "", "no such version")

    assert package_tools.base_python("x", recipe, command) == ("/usr/bin/python3.8", "3.8.20")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadInput, match=r"old runs on Python 3\.8 to 3\.9, and none of them"):
        package_tools.base_python("x", recipe, command)


def test_pips_last_words_are_kept_short() -> None:
    said = "WARNING: x\nERROR: Could not find a version that satisfies a==9 (from versions: 1)\n"
    assert package_tools.shortened(said).startswith("ERROR: Could not find a version")
    assert len(package_tools.shortened("error: " + "x" * 9000)) == 400
    assert package_tools.shortened("one\ntwo\n\nthree\nfour\n") == "two; three; four"
