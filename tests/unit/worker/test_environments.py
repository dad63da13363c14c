"""Which interpreter a backend runs in."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract.child_jobs import Probed
from agent.contract.device import RuntimeFacts
from agent.contract.versions import fits, version_key
from agent.worker.environments.environments import Environments, RuntimeEnvironment
from agent.worker.errors import BadInput, ChildFailed, EnvironmentMissing, PackagesMissing


class Probes:
    """Interpreters and the runtimes that answer in each."""

    def __init__(self) -> None:
        litert = RuntimeFacts("litert", "", "", missing="no")
        self.answers: dict[str, tuple[RuntimeFacts, ...]] = {"/default": (ort("1.31.1"), litert)}
        self.errors: dict[str, ChildFailed] = {}
        self.asked: list[str] = []

    def __call__(self, python: str) -> Probed:
        self.asked.append(python)
        if python not in self.answers:
            raise self.errors.get(python, ChildFailed(f"{python}: it broke"))
        return Probed(self.answers[python])


def add(environments: Environments, backend: str, python: str) -> RuntimeEnvironment:
    added = environments.check(backend, python)
    environments.add(added)
    return added


def ort(version: str) -> RuntimeFacts:
    return RuntimeFacts("onnxruntime", version, "")


@pytest.fixture
def probes() -> Probes:
    return Probes()


@pytest.fixture
def environments(tmp_path: Path, probes: Probes) -> Environments:
    return Environments(tmp_path, probes, "/default")


@pytest.fixture
def python(tmp_path: Path, probes: Probes) -> Callable[[str, RuntimeFacts], str]:
    def make(name: str, facts: RuntimeFacts) -> str:
        path = tmp_path / name
        path.symlink_to(sys.executable)
        probes.answers[str(path)] = (facts,)
        return str(path)

    return make


def test_a_backend_not_listed_runs_in_the_agents_own_interpreter(
    environments: Environments, probes: Probes
) -> None:
    expected = RuntimeEnvironment("default", "onnxruntime", "1.31.1", "/default")
    assert environments.resolve("onnxruntime") == expected
    assert environments.resolve("onnxruntime", "1.31") == expected
    assert probes.asked == ["/default"]


def test_what_is_missing_is_said(environments: Environments) -> None:
    with pytest.raises(EnvironmentMissing, match=r"only 1\.31\.1"):
        environments.resolve("onnxruntime", "1.3")
    with pytest.raises(EnvironmentMissing, match="litert does not answer here: no"):
        environments.resolve("litert")
    with pytest.raises(EnvironmentMissing, match="no backend 'tvm'; it has: onnxruntime, litert"):
        environments.resolve("tvm")


def test_versions_stand_side_by_side(
    environments: Environments, python: Callable[[str, RuntimeFacts], str]
) -> None:
    for number in ("1.9.0", "1.31.1", "1.20.0"):
        add(environments, "onnxruntime", python(f"python-{number}", ort(number)))
    assert environments.resolve("onnxruntime").version == "1.31.1"
    assert environments.resolve("onnxruntime", "1.9").name == "onnxruntime-1.9.0"
    with pytest.raises(EnvironmentMissing, match=r"1\.9\.0, 1\.31\.1, 1\.20\.0"):
        environments.resolve("onnxruntime", "1.3")
    assert [(f.version, f.environment) for f in environments.facts() if f.version] == [
        ("1.31.1", "onnxruntime-1.31.1"),
        ("1.20.0", "onnxruntime-1.20.0"),
        ("1.9.0", "onnxruntime-1.9.0"),
    ]


def test_adding_keeps_the_link_of_a_virtual_environment(
    environments: Environments, python: Callable[[str, RuntimeFacts], str], tmp_path: Path
) -> None:
    added = add(environments, "onnxruntime", python("venv-python", ort("1.19.2")))
    assert added.python == str(tmp_path / "venv-python")
    assert environments.listed() == [added]
    assert add(environments, "onnxruntime", added.python) == added
    assert environments.listed() == [added]


def test_removing(environments: Environments, python: Callable[[str, RuntimeFacts], str]) -> None:
    add(environments, "onnxruntime", python("p", ort("1.19.2")))
    environments.remove("other")
    assert environments.resolve("onnxruntime").name == "onnxruntime-1.19.2"
    environments.remove("onnxruntime-1.19.2")
    assert environments.resolve("onnxruntime").name == "default"


def test_one_of_the_same_version_takes_the_others_place(
    environments: Environments, python: Callable[[str, RuntimeFacts], str]
) -> None:
    first = add(environments, "onnxruntime", python("p", ort("1.19.2")))
    second = replace(first, name="onnxruntime-1.19.2-abc")
    assert environments.add(second) == [first]
    assert environments.add(second) == []
    assert environments.listed() == [second]


def test_of_two_variants_the_preferred_one_runs_whatever_their_numbers(
    environments: Environments, python: Callable[[str, RuntimeFacts], str]
) -> None:
    old = environments.check("onnxruntime", python("p", ort("2.14.0")))
    environments.add(replace(old, preferred=False))
    add(environments, "onnxruntime", python("q", ort("2.3.0")))
    assert environments.resolve("onnxruntime").version == "2.3.0"
    assert environments.resolve("onnxruntime", "2.14").version == "2.14.0"
    assert [f.version for f in environments.facts() if f.version] == ["2.3.0", "2.14.0"]


def test_what_cannot_be_added(
    environments: Environments, python: Callable[[str, RuntimeFacts], str], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="no interpreter"):
        add(environments, "onnxruntime", str(tmp_path / "nothing"))
    with pytest.raises(BadInput, match="no interpreter"):
        add(environments, "onnxruntime", str(tmp_path))
    with pytest.raises(BadInput, match="backend"):
        add(environments, "Open Vino", sys.executable)
    with pytest.raises(EnvironmentMissing, match="not there"):
        add(environments, "tvm", python("q", RuntimeFacts("tvm", "", "", missing="not there")))
    assert environments.listed() == []


def test_an_environment_that_broke_says_so_and_hides_no_other(
    environments: Environments, probes: Probes, python: Callable[[str, RuntimeFacts], str]
) -> None:
    path = python("p", ort("1.19.2"))
    add(environments, "onnxruntime", path)
    del probes.answers[path]
    facts = {f.backend: f for f in environments.probe_all()}
    assert facts["onnxruntime"].missing == f"{path}: it broke"
    assert facts["onnxruntime"].environment == "onnxruntime-1.19.2"
    assert "litert" in facts


def test_an_upgrade_inside_an_environment_is_noticed(
    environments: Environments, probes: Probes, python: Callable[[str, RuntimeFacts], str]
) -> None:
    path = python("p", ort("1.19.2"))
    add(environments, "onnxruntime", path)
    probes.answers[path] = (ort("1.20.0"),)
    environments.probe_all()
    assert environments.resolve("onnxruntime", "1.20.0").python == path


def test_an_interpreter_that_gave_no_answer_is_asked_once_more(
    environments: Environments, probes: Probes
) -> None:
    answer = probes.answers.pop("/default")
    assert environments.facts() == ()
    assert environments.silent() == ["/default"]
    with pytest.raises(EnvironmentMissing, match="it broke"):
        environments.resolve("onnxruntime")
    assert environments.facts() == ()
    assert probes.asked == ["/default"] * 2
    probes.answers["/default"] = answer
    assert environments.resolve("onnxruntime").version == "1.31.1"
    assert environments.silent() == []


def test_those_that_gave_no_answer_are_asked_again_and_no_others(
    environments: Environments, probes: Probes, python: Callable[[str, RuntimeFacts], str]
) -> None:
    path = python("p", ort("1.19.2"))
    add(environments, "onnxruntime", path)
    answers = probes.answers.pop(path)
    environments.facts()
    probes.asked.clear()
    probes.answers[path] = answers
    found = {f.backend: f for f in environments.ask_silent()}
    assert (found["onnxruntime"].version, found["onnxruntime"].missing) == ("1.19.2", "")
    assert probes.asked == [path]


def test_each_interpreter_is_asked_once(environments: Environments, probes: Probes) -> None:
    for _ in range(3):
        environments.facts()
        environments.resolve("onnxruntime")
    assert probes.asked == ["/default"]
    environments.probe_all()
    assert probes.asked == ["/default"] * 2


def test_versions_sort_by_number() -> None:
    versions = ["1.31.1", "1.9.0", "2026.4.1", "1.31.1rc1", "1.31"]
    assert sorted(versions, key=version_key)[0] == "1.9.0"
    assert max(versions, key=version_key) == "2026.4.1"


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("1.31.1", "", True),
        ("1.31.1", "1.31.1", True),
        ("1.31.1", "1.31", True),
        ("1.31.1", "1.3", False),
        ("2.13.0+cpu", "2.13.0", True),
        ("2.13.0", "2.13.0+cpu", False),
    ],
)
def test_a_version_fits_a_prefix_at_a_dot(version: str, wanted: str, expected: bool) -> None:
    assert fits(version, wanted) is expected


def test_an_interpreter_without_numpy_is_said_once_and_not_asked_again(
    environments: Environments,
    probes: Probes,
    python: Callable[[str, RuntimeFacts], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An agent from a playbook has no numpy itself: its listed environments have."""
    caplog.set_level(logging.INFO)
    probes.answers.pop("/default")
    probes.errors["/default"] = PackagesMissing("No module named 'numpy'")
    for _ in range(3):
        environments.ask_silent()
    assert [r.levelname for r in caplog.records] == ["ERROR"], "nothing could run a backend"
    caplog.clear()
    add(environments, "onnxruntime", python("p", ort("1.19.2")))
    environments.probe_all()
    assert environments.silent() == []
    assert caplog.records == [], "nothing is wrong"
    probes.errors["/default"] = ChildFailed("killed")
    environments.probe_all()
    assert environments.silent() == ["/default"]
    assert [r.levelname for r in caplog.records] == ["INFO"]
