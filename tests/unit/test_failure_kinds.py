"""The table of failure kinds, held against the code that raises them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent
from agent.contract import failures
from agent.contract.failures import FAILURE_KINDS, RunnerError, make_failure
from agent.contract.trial import STATUSES, Failure

ROOT = Path(agent.__file__).parents[1]
STATUS_NOT_FAILED = {
    "bad_output": "invalid",
    "off_reference": "invalid",
    "clock": "invalid",
    "unsupported": "unsupported",
    "unsupported_operator": "unsupported",
    "unsupported_shape": "unsupported",
    "unsupported_precision": "unsupported",
    "unsupported_target": "unsupported",
    "unsupported_format": "unsupported",
    "unsupported_scenario": "unsupported",
    "cancelled": "cancelled",
    "lease_lost": "cancelled",
    "shutdown": "cancelled",
}
TRANSIENT = {"agent_died", "blob_corrupt", "cuda", "disk_full", "io", "lease_lost", "shutdown"}


def test_status_and_transience_of_every_kind() -> None:
    found = {name: kind.status for name, kind in FAILURE_KINDS.items() if kind.status != "failed"}
    assert found == STATUS_NOT_FAILED
    assert set(found.values()) <= set(STATUSES)
    assert {name for name, kind in FAILURE_KINDS.items() if kind.transient} == TRANSIENT


def test_an_error_takes_status_and_transience_from_the_table() -> None:
    class Cuda(RunnerError):
        kind = "cuda"

    class Clock(RunnerError):
        kind = "clock"

    assert (Cuda("x").status, Cuda("x").transient) == ("failed", True)
    assert (Clock("x").status, Clock("x").transient) == ("invalid", False)


def test_an_error_of_an_unknown_kind_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="'nobodys' is not in FAILURE_KINDS"):

        class Nobodys(RunnerError):
            kind = "nobodys"


def test_a_failure_takes_its_transience_from_the_table() -> None:
    assert make_failure("load", "io", "m") == Failure("load", "io", "m", True)
    assert make_failure("load", "crash", "m", "log") == Failure("load", "crash", "m", False, "log")
    with pytest.raises(KeyError):
        make_failure("load", "nobodys", "m")


def test_every_kind_that_the_code_raises_is_in_the_table_and_none_is_unused() -> None:
    kinds = set(_raised())
    assert kinds == set(FAILURE_KINDS)


def _raised() -> Iterator[str]:
    """The kinds named in the code: by error classes, and as an argument that builds a failure."""
    for _, found in inspect.getmembers(failures, inspect.isclass):
        if issubclass(found, RunnerError):
            yield found.kind
    for folder in ("agent", "orchestrator", "playbooks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            if path != Path(failures.__file__):
                yield from _in_classes(tree)
                yield from _in_calls(tree)
    yield from _cancels()


def _in_classes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and _is_failure_class(node):
            for line in node.body:
                if isinstance(line, ast.Assign | ast.AnnAssign):
                    target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
                    if ast.unparse(target) in ("kind", "failure_kind"):
                        yield from _strings(line.value)


def _is_failure_class(node: ast.ClassDef) -> bool:
    """Not the errors of the API, whose ``kind`` is another thing."""
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return bool(bases & {"RunnerError", "Unsupported", "AgentError"}) or node.name == "AgentError"


def _in_calls(tree: ast.AST) -> Iterator[str]:
    """Second argument of ``Failure(stage, kind, …)``, also where a variable holds it."""
    constants = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            kind = node.args[1]
            if node.func.id in ("Failure", "make_failure", "NoConversionPath"):
                kind = constants.get(kind.id, kind) if isinstance(kind, ast.Name) else kind
                yield from _strings(kind)


def _strings(node: ast.expr | None) -> Iterator[str]:
    """The constants that an expression may be: ``"a" if test else "b"`` gives both."""
    if isinstance(node, ast.IfExp):
        yield from _strings(node.body)
        yield from _strings(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def _cancels() -> Iterator[str]:
    from agent.worker.isolation.runner_client import CANCEL_KINDS

    yield from CANCEL_KINDS.values()
