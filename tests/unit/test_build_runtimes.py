"""Which environments the tests build, and where they find them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import build_runtimes
from agent.runtimes.manifest import Recipe, Runtime
from agent.worker.environments import environments_file
from agent.worker.environments.environments_file import RuntimeEnvironment
from support import environments

TOY = Runtime("toy", recipes=(Recipe("toy", "1.0"), Recipe("toy", "1.0", variant="more")))
TWO = Runtime("two", recipes=(Recipe("a", "2.3", variant="a"), Recipe("b", "2.14", variant="b")))


def test_the_most_complete_recipe_of_each_version_is_built() -> None:
    recipes = [(runtime, recipe) for runtime in (TOY, TWO) for recipe in runtime.recipes]
    wanted = ["toy@more==1.0", "two@a==2.3", "two@b==2.14"]
    assert build_runtimes.labels(recipes, answering=()) == wanted
    assert build_runtimes.labels(recipes, answering=["two", "other"]) == wanted[:1]


def test_one_that_cannot_be_built_does_not_hold_up_the_others(tmp_path: Path) -> None:
    called = []

    def run(command: list[str]) -> int:
        called.append(command[1:])
        return int("two" in command[3])

    failed = build_runtimes.build(["one", "two", "three"], tmp_path, run)
    assert failed == ["two"]
    added = ["runtimes", "add"]
    folder = ["--state-dir", str(tmp_path)]
    assert called == [[*added, name, *folder] for name in ("one", "two", "three")]


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both packages of tflite (the default has the lower number), two versions of openvino."""
    entries = [
        RuntimeEnvironment("a", "tflite", "2.3.0", "/a/python"),
        RuntimeEnvironment("b", "tflite", "2.14.0", "/b/python", preferred=False),
        RuntimeEnvironment("c", "openvino", "2025.4.1", "/c/python"),
        RuntimeEnvironment("d", "openvino", "2026.4.1", "/d/python"),
        RuntimeEnvironment("e", "pytorch", "2.13.0+cpu", "/e/python"),
    ]
    environments_file.write(tmp_path / environments_file.FILE_NAME, entries)
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("label", "python"),
    [
        ("tflite", "/a/python"),
        ("tflite@litert", "/a/python"),
        ("tflite@tflite-runtime", "/b/python"),
        ("openvino", "/d/python"),
        ("pytorch@litert", "/e/python"),
        ("onnxruntime", sys.executable),
    ],
)
def test_an_interpreter_is_found_by_the_name_that_its_environment_was_added_under(
    label: str, python: str
) -> None:
    assert environments.python_of(label) == python


def test_a_variant_that_is_not_listed_is_no_other_interpreter(listed: Path) -> None:
    environments_file.write(listed / environments_file.FILE_NAME, [])
    with pytest.raises(environments.NotBuilt, match="`make runtimes`"):
        environments.python_of("tflite@litert")
