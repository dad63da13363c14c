"""Lock files: they name all that is asked for, at versions that fit; so a forgotten `make lock`
fails."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agent import lock_files
from agent.runtimes import registry
from agent.worker.environments.recipes import parse

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {
    ROOT / "requirements" / "dev.lock": ("controller", "onnxruntime", "openvino", "dev"),
    ROOT / "requirements" / "controller.lock": ("controller",),
    lock_files.AGENT: (),
}
FILES = [*EXTRAS, *sorted({registry.lock_file(*pair) for pair in registry.recipes()})]


def versions(file: Path) -> dict[str, str]:
    """By canonical name; one version each, whatever the machine."""
    found: dict[str, str] = {}
    for requirement in lock_files.read(file):
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{file.name} names {name} twice"
        found[name] = pin.version
    return found


def unmet(asked: list[str], locked: dict[str, str]) -> list[str]:
    found = []
    for text in asked:
        requirement = Requirement(text)
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(text)
    return found


@pytest.mark.parametrize("file", EXTRAS, ids=lambda path: path.name)
def test_what_pyproject_asks_for_is_locked_at_a_version_that_fits(file: Path) -> None:
    asked = list(PROJECT["dependencies"])
    for extra in EXTRAS[file]:
        asked += PROJECT["optional-dependencies"][extra]
    assert unmet(asked, versions(file)) == []


def test_what_is_asked_for_needs_nothing_that_is_not_locked() -> None:
    """Follows the requirements in the metadata of the installed packages."""
    locked = versions(ROOT / "requirements" / "dev.lock")
    left = [canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]]
    seen: set[str] = set()
    environment: Any = {**default_environment(), "extra": ""}
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        assert name in locked
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate(environment):
                left.append(canonicalize_name(needed.name))
    assert len(seen) > len(PROJECT["dependencies"])


LABELS = [
    runtime.name + (f"@{recipe.variant}" if recipe.variant else "")
    for runtime, recipe in registry.recipes()
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_a_recipe_asks_for_is_locked_at_a_version_that_fits(label: str, machine: str) -> None:
    wanted = parse(label, machine)
    assert wanted.lock is not None
    asked = [text for step in wanted.steps if step != wanted.bare for text in step]
    assert unmet(asked, versions(wanted.lock)) == []


def test_another_version_than_the_tested_one_is_held_to_nothing() -> None:
    assert parse("openvino").lock == ROOT / "agent/runtimes/openvino/requirements.lock"
    assert parse("openvino==2026.2.0").lock is None


def test_an_unmet_bound_is_seen() -> None:
    assert unmet(["a>=2", "b", "C_c==1"], {"a": "1.9", "c-c": "1"}) == ["a>=2", "b"]


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lock_files_name_no_place_and_only_the_controllers_name_hashes(file: Path) -> None:
    text = file.read_text("utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    hashed = file.parent.name == "requirements"
    pinned = text.count("==")
    assert (text.count("--hash=sha256:") >= pinned > 0) if hashed else "--hash" not in text


def test_no_lock_file_is_left_over() -> None:
    assert {*ROOT.glob("agent/**/*.lock"), *ROOT.glob("requirements/*.lock")} == set(FILES)


def test_markers_are_read_for_the_machine_that_is_asked_about() -> None:
    here = {"platform_machine": "x86_64", "python_full_version": "3.11.2"}
    there = {**here, "platform_machine": "aarch64"}
    lock = parse("tvm").lock
    assert lock is not None
    assert any(p.startswith("xgboost-cpu==") for p in lock_files.pins(lock, {**PLAIN, **here}))
    assert not any(p.startswith("xgboost-cpu==") for p in lock_files.pins(lock, {**PLAIN, **there}))


PLAIN = {
    "python_version": "3.11",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "extra": "",
}


AUDITED = [
    ([{"name": "a", "version": "1", "vulns": []}], 0, "1 locked versions, no known hole"),
    (
        [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}],
        *(1, "a 1: PYSEC-1, fixed in 2"),
    ),
    ([{"name": "a", "skip_reason": "unknown"}], 3, "nothing was audited"),
    (
        [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "unknown"}],
        *(3, "not audited, for nobody knows them: b"),
    ),
]


@pytest.mark.parametrize(("answers", "code", "says"), AUDITED)
def test_an_audit_that_nobody_answered_is_no_clean_one(
    answers: list[dict[str, Any]], code: int, says: str
) -> None:
    """pip-audit itself says so in a line among many, or exits 0."""
    script = (
        f"import json, audit; raise SystemExit(audit.report(json.loads({json.dumps(answers)!r})))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, json.dumps(answers)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'requirements'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    assert says in ended.stdout + ended.stderr
