"""``python -m tests.build_runtimes FOLDER`` builds the environments that the tests run in.

Each is what ``benchfarm-agent runtimes add`` builds on a board. A runtime that answers in this
interpreter already needs none. What is in ``FOLDER`` already is kept.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.runtimes import registry
from agent.runtimes.manifest import Recipe, Runtime
from agent.worker.environments.recipes import RuntimeRequirement
from agent.worker.isolation.runner_client import RunnerClient

AGENT = Path(sys.executable).with_name("benchfarm-agent")


def labels(recipes: Iterable[tuple[Runtime, Recipe]], answering: Iterable[str]) -> list[str]:
    """``NAME@VARIANT==VERSION`` of the environments to build, without those of ``answering``.

    Two environments of one runtime and version take each other's place, so of the recipes of one
    version the last is built: a manifest lists the more complete one last.
    """
    last = {(runtime.name, recipe.tested): (runtime, recipe) for runtime, recipe in recipes}
    return [
        RuntimeRequirement(runtime, recipe, recipe.tested).label
        for runtime, recipe in last.values()
        if runtime.name not in answering
    ]


def build(wanted: Iterable[str], folder: Path, run: Callable[[list[str]], int]) -> list[str]:
    """Add every environment to the state folder; returns the labels of those that failed."""
    return [
        label
        for label in wanted
        if run([str(AGENT), "runtimes", "add", label, "--state-dir", str(folder)]) != 0
    ]


def answering_here() -> set[str]:
    """The runtimes that answer in this interpreter."""
    probed = RunnerClient(mark="tests").probe(sys.executable)
    return {facts.backend for facts in probed.runtimes if not facts.missing}


def main(folder: Path) -> int:
    """The exit code: 1 if one could not be built; the others are built all the same."""
    failed = build(labels(registry.recipes(), answering_here()), folder, subprocess.call)
    if failed:
        sys.stderr.write(f"not built: {', '.join(failed)}; run it again to go on from here\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
