"""The measured child's rules: Python 3.8 syntax, and nothing imported that a board may lack."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent

AGENT = Path(agent.__file__).parent
FOLDERS = ("contract", "formats", "runner", "runtimes")
"""What the child imports: the runner, and what it shares with worker and controller."""
FILES = [path for folder in FOLDERS for path in sorted((AGENT / folder).rglob("*.py"))]
ALLOWED = {*sys.stdlib_module_names, "numpy", "agent"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path), feature_version=(3, 8))


def module_level_imports(tree: ast.AST) -> Iterator[str]:
    """Modules imported when the file is, so outside every function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        yield from module_level_imports(node)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(AGENT)))
def test_the_syntax_is_that_of_python_38(path: Path) -> None:
    tree = tree_of(path)
    newer = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("removeprefix", "removesuffix"))
        or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "zip"
            and node.keywords
        )
    ]
    assert newer == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(AGENT)))
def test_runtimes_are_imported_in_functions_only(path: Path) -> None:
    found = {name.split(".")[0] for name in module_level_imports(tree_of(path))}
    assert found <= ALLOWED


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(AGENT)))
def test_only_what_the_child_has_is_imported(path: Path) -> None:
    found = {n for n in module_level_imports(tree_of(path)) if n.split(".")[0] == "agent"}
    assert {n for n in found if n != "agent" and n.split(".")[1] not in FOLDERS} == set()
