"""Which interpreter makes a format of the zoo: what is said goes before what is found."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from orchestrator.domain.errors import UserError
from orchestrator.local import zoo_interpreters
from orchestrator.zoo.errors import ToolMissing


def python(path: Path) -> str:
    path.write_text("#!/bin/sh\necho no module named tensorflow >&2\nexit 3\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for emission in zoo_interpreters.EMISSIONS.values():
        monkeypatch.delenv(emission.variable, raising=False)


def enlist(state_dir: Path, *entries: tuple[str, str, str]) -> None:
    listed = [
        {"name": f"{backend}-{version}", "backend": backend, "version": version, "python": path}
        for backend, version, path in entries
    ]
    (state_dir / "environments.json").write_text(json.dumps(listed))


def test_what_is_given_goes_first_then_the_variable_then_the_agents_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named, old, new, torch = (
        python(tmp_path / name) for name in ("given", "named", "old", "new", "torch")
    )
    enlist(
        tmp_path,
        ("tensorflow", "2.9.1", old),
        ("tensorflow", "2.21.0", new),
        ("pytorch", "2.13.0", torch),
    )
    assert zoo_interpreters.find_interpreter("keras", "", tmp_path) == new
    assert zoo_interpreters.find_interpreter("h5", "", tmp_path) == new
    assert zoo_interpreters.find_interpreter("pt2", "", tmp_path) == torch
    monkeypatch.setenv("BENCHFARM_TENSORFLOW_PYTHON", named)
    assert zoo_interpreters.find_interpreter("keras", "", tmp_path) == named
    assert zoo_interpreters.find_interpreter("pt2", "", tmp_path) == torch
    assert zoo_interpreters.find_interpreter("keras", given, tmp_path) == given


@pytest.mark.parametrize(("form", "package"), [("keras", "tensorflow"), ("pt2", "torch")])
def test_where_none_is_known_it_says_what_to_add(form: str, package: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(package) is not None:
        assert zoo_interpreters.find_interpreter(form, "", tmp_path) == sys.executable
        return
    with pytest.raises(ToolMissing) as caught:
        zoo_interpreters.find_interpreter(form, "", tmp_path)
    backend = zoo_interpreters.EMISSIONS[form].backend
    assert f"needs an interpreter that has {package}" in str(caught.value)
    assert f"`benchfarm-agent runtimes add {backend} --state-dir {tmp_path}`" in str(caught.value)
    assert f"BENCHFARM_{backend.upper()}_PYTHON" in str(caught.value)


def test_an_interpreter_that_is_none_is_named_with_who_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--python names /none, which is no interpreter"):
        zoo_interpreters.find_interpreter("keras", "/none", tmp_path)
    enlist(tmp_path, ("tensorflow", "2.21.0", "/gone/python"))
    with pytest.raises(UserError, match="/gone/python"):
        zoo_interpreters.find_interpreter("keras", "", tmp_path)
    monkeypatch.setenv("BENCHFARM_TENSORFLOW_PYTHON", str(tmp_path))
    with pytest.raises(UserError, match="BENCHFARM_TENSORFLOW_PYTHON names"):
        zoo_interpreters.find_interpreter("keras", "", tmp_path)


def test_a_failed_child_is_told_by_its_last_line(tmp_path: Path) -> None:
    broken = python(tmp_path / "python")
    with pytest.raises(UserError, match=f"keras under {broken} failed: no module named tensorflow"):
        zoo_interpreters.emit("keras", broken, "digits_cnn", tmp_path / "x.keras", 0, 1)
    no_program = tmp_path / "text"
    no_program.write_text("no program")
    no_program.chmod(0o755)
    with pytest.raises(UserError, match="cannot be run"):
        zoo_interpreters.emit("keras", str(no_program), "digits_cnn", tmp_path / "x.keras", 0, 1)
