"""What the commands of ``agent.cli`` call, and the rows that they print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from agent import facts
from agent.contract.device import DeviceFacts, RuntimeFacts
from agent.facts.rows import rows
from agent.worker.environments.builder import FOLDER, EnvironmentBuilder
from agent.worker.environments.commands import ListedEnvironment, RuntimeCommands
from agent.worker.environments.environments import Environments
from agent.worker.isolation.runner_client import RunnerClient
from agent.worker.state_dir import mark_of


def environments(state_dir: Path) -> Environments:
    """The environments of a state folder, probed by real children."""
    return Environments(state_dir, _runner(state_dir).probe)


def runtimes(state_dir: Path) -> RuntimeCommands:
    """The commands on the environments of a state folder."""
    state_dir = state_dir.absolute()
    probe = _runner(state_dir).probe
    builder = EnvironmentBuilder(state_dir / FOLDER, probe)
    return RuntimeCommands(state_dir, Environments(state_dir, probe), builder)


def _runner(state_dir: Path) -> RunnerClient:
    # Not the running agent's mark: an agent that starts kills the children with its own mark.
    return RunnerClient(f"command:{mark_of(state_dir)}")


def device_facts(state_dir: Path) -> DeviceFacts:
    """This device's facts, with its runtimes and tools."""
    found = environments(state_dir)
    return facts.collect(state_dir, runtimes=found.facts(), tools=found.tools())


def facts_rows(device: DeviceFacts) -> list[tuple[str, ...]]:
    """A device's facts as rows of (name, value)."""
    found: list[tuple[str, ...]] = [*rows(device)]
    return found + [("runtime", " ".join(row)) for row in runtime_rows(device.runtimes)]


def runtime_rows(runtimes: Iterable[RuntimeFacts]) -> list[tuple[str, ...]]:
    """Runtimes as rows of (backend, version, environment, targets or why it is missing)."""
    return [
        (
            r.backend,
            r.version or "-",
            r.environment or "-",
            f"missing: {r.missing}"
            if r.missing
            else "; ".join(f"{t.name} ({', '.join(t.precisions)})" for t in r.targets),
        )
        for r in runtimes
    ]


LISTED_COLUMNS = ("runtime", "version", "environment", "building cost", "targets (precisions)")
"""The columns of ``listed_rows``."""


def listed_rows(listed: Iterable[ListedEnvironment]) -> list[tuple[str, ...]]:
    """``runtime_rows`` with the cost of building each environment."""
    return [
        (
            *row[:3],
            each.built.cost if each.built else "-",
            f"{row[3]}; warning: {each.warning}" if each.warning else row[3],
        )
        for each in listed
        for row in runtime_rows([each.facts])
    ]
