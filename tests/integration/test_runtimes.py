"""Environments really built, from a wheelhouse: two versions of one runtime side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.worker import cli_support
from agent.worker.environments import package_tools
from agent.worker.environments.builder import EnvironmentBuilder
from agent.worker.environments.commands import RuntimeCommands
from agent.worker.environments.environments import RuntimeEnvironment
from agent.worker.environments.package_tools import PackageTool
from agent.worker.errors import BadInput, IndexUnreachable
from support.need import need
from support.wheels import NEW, OLD


@pytest.fixture
def make(tmp_path: Path) -> Callable[[PackageTool], RuntimeCommands]:
    def made(tools: PackageTool) -> RuntimeCommands:
        real = cli_support.runtimes(tmp_path)
        builder = EnvironmentBuilder(tmp_path / "runtimes", real.builder.probe, tools)
        return RuntimeCommands(tmp_path, real.environments, builder)

    return made


def answers(python: str, code: str) -> str:
    """What an expression gives under an interpreter, on its own packages alone."""
    command = [python, "-I", "-c", f"import onnxruntime; print({code})"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def left(runtimes: RuntimeCommands) -> list[str]:
    return sorted(p.name for p in (runtimes.state_dir / "runtimes").iterdir())


@pytest.mark.parametrize("tool", ["uv", "venv and pip"])
def test_two_versions_are_built_offline_and_stand_side_by_side(
    make: Callable[[PackageTool], RuntimeCommands], wheelhouse: Path, tool: str
) -> None:
    found = package_tools.find()
    if tool == "uv":
        need("uv", bool(found.uv), "no uv on the path")
    runtimes = make(found if tool == "uv" else PackageTool(""))
    built: list[RuntimeEnvironment] = [
        runtimes.build(f"onnxruntime=={version}", wheelhouse, print) for version in (NEW, OLD)
    ]
    for environment, version in zip(built, (NEW, OLD), strict=True):
        assert environment.version == version
        assert answers(environment.python, "onnxruntime.__version__") == version
        home = str(Path(environment.python).parents[2])
        assert answers(environment.python, "onnxruntime.__file__").startswith(home)
        manifest = runtimes.builder.manifest(environment.name)
        assert manifest is not None
        assert f"onnxruntime=={version}" in manifest.pins
        assert manifest.tool == tool
        assert manifest.size_mib > 10
        script = (Path(environment.python).parent / "onnxruntime_test").read_text()
        assert environment.python in script.replace(os.sep, "/")
    assert [f.version for f in runtimes.environments.facts() if f.backend == "onnxruntime"] == [
        NEW,
        OLD,
    ]
    assert runtimes.environments.resolve("onnxruntime", OLD) == built[1]
    runtimes.remove(f"onnxruntime=={OLD}", print)
    assert left(runtimes) == [built[0].name]


def test_a_version_that_is_not_in_the_wheelhouse_is_named(
    make: Callable[[PackageTool], RuntimeCommands], wheelhouse: Path
) -> None:
    for tools in (package_tools.find(), PackageTool("")):
        runtimes = make(tools)
        with pytest.raises(BadInput, match=r"onnxruntime==9\.9 cannot be installed here: "):
            runtimes.build("onnxruntime==9.9", wheelhouse, print)
        assert left(runtimes) == []


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_without_network_and_wheelhouse_there_is_one_clear_message(
    make: Callable[[PackageTool], RuntimeCommands],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tool: str,
) -> None:
    found = package_tools.find()
    if tool == "uv":
        need("uv", bool(found.uv), "no uv on the path")
    dead = "http://127.0.0.1:9"  # the discard port: nothing listens there
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, dead)
        monkeypatch.setenv(name.lower(), dead)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_RETRIES", "1")
    runtimes = make(found if tool == "uv" else PackageTool(""))
    with pytest.raises(IndexUnreachable, match="--wheelhouse DIR"):
        runtimes.build("onnxruntime", None, print)
    assert left(runtimes) == []


SLOW_TOOL = """#!/bin/sh
case "$1" in --version) exit 0;; esac
touch "{started}"
exec sleep 60
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    tool, started = tmp_path / "bin" / "uv", tmp_path / "started"
    tool.parent.mkdir()
    tool.write_text(SLOW_TOOL.format(started=started))
    tool.chmod(0o755)
    state = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", "runtimes", "add", "onnxruntime"],
        env={
            **os.environ,
            "BENCHFARM_AGENT_HOME": str(state),
            "PATH": f"{tool.parent}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "nothing was kept" in said
    assert "Traceback" not in said
    assert list((state / "runtimes").iterdir()) == []
    assert not (state / "environments.json").exists()


def test_the_commands_build_show_and_remove(tmp_path: Path, wheelhouse: Path) -> None:
    def agent(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent.cli", "runtimes", *words],
            env={**os.environ, "BENCHFARM_AGENT_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    built = agent("add", f"onnxruntime=={OLD}", "--wheelhouse", str(wheelhouse))
    assert built.returncode == 0, built.stderr
    assert f"onnxruntime {OLD} under {tmp_path}" in built.stdout
    (found,) = (
        each
        for each in json.loads(agent("list", "-o", "json").stdout)
        if each["facts"]["backend"] == "onnxruntime"
    )
    assert found["facts"]["version"] == OLD
    assert found["built"]["build_s"] > 0
    name = found["facts"]["environment"]
    assert name in agent("list").stdout
    for words in (("add", "nonsense"), ("add", "pycoral"), ("remove", "nonsense")):
        refused = agent(*words)
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1
    assert agent("remove", name).returncode == 0
    assert list((tmp_path / "runtimes").iterdir()) == []
