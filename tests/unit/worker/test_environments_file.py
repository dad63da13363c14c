"""A damaged list of environments: what is right stays, what was built is found again."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from agent.worker.environments import environments_file
from agent.worker.environments.builder import FOLDER, MANIFEST_NAME, EnvironmentManifest
from agent.worker.environments.environments_file import FILE_NAME, RuntimeEnvironment
from agent.worker.errors import BadInput

NAMED = RuntimeEnvironment("tensorrt-10.9", "tensorrt", "10.9", "/usr/bin/python3")

DAMAGED = [
    "",
    "{",
    "null",
    "{}",
    "[1]",
    '[{"name": "x"}]',
    '[{"name": 1, "backend": "onnxruntime", "version": "1.0", "python": "/p"}]',
    '[{"name": "x", "backend": "onnxruntime", "version": null, "python": "/p"}]',
    '[{"name": "x", "backend": "a", "version": "1", "python": "/p", "preferred": "yes"}]',
    '{"schema": 9, "environments": [{"name": "x"}]}',
    "[" * 100_000,
    "\x00" * 64,
]


def build(state: Path, name: str, version: str, variant: str = "", age_s: float = 0) -> str:
    """An environment as the builder leaves it; returns its interpreter."""
    backend = name.split("-")[0]
    home = state / FOLDER / name
    python = home / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    known = EnvironmentManifest(
        *(name, backend, variant, version, "request", (), (), "3.11.2", "x86_64", "uv"),
        build_s=1.0,
        size_mib=1.0,
    )
    (home / MANIFEST_NAME).write_text(json.dumps(asdict(known)))
    os.utime(home, (1e9 - age_s, 1e9 - age_s))
    return str(python)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_of_a_damaged_list_what_was_built_is_found_again(
    tmp_path: Path, file: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    python = build(tmp_path, "onnxruntime-1.31.1-abc", "1.31.1")
    file.write_text(text)
    found = environments_file.read(file)
    assert found == [RuntimeEnvironment("onnxruntime-1.31.1-abc", "onnxruntime", "1.31.1", python)]
    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    assert f"{file} was damaged (expected a list of objects" in said.getMessage()
    assert "kept as environments.json.damaged-1" in said.getMessage()
    assert "the list is now: onnxruntime-1.31.1-abc" in said.getMessage()
    assert (tmp_path / "environments.json.damaged-1").read_text() == text
    caplog.clear()
    assert environments_file.read(file) == found
    assert caplog.records == []


def test_a_list_that_ends_early_says_so_and_leaves_what_answers_by_itself(
    tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environments_file.write(file, [NAMED])
    file.write_text(file.read_text()[:-20])
    assert environments_file.read(file) == []
    assert "the list is now: empty" in caplog.text
    assert "runtimes add NAME --python PATH" in caplog.text


def test_one_wrong_entry_costs_no_other(tmp_path: Path, file: Path) -> None:
    built = build(tmp_path, "ncnn-1.0-abc", "1.0")
    file.write_text(json.dumps([asdict(NAMED), {"name": 7}]))
    assert environments_file.read(file) == [
        NAMED,
        RuntimeEnvironment("ncnn-1.0-abc", "ncnn", "1.0", built),
    ]


def test_keys_of_a_newer_agent_are_passed_over(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = json.dumps([{**asdict(NAMED), "colour": "green"}])
    file.write_text(text)
    assert environments_file.read(file) == [NAMED]
    assert file.read_text() == text
    assert caplog.records == []


def test_of_two_built_alike_the_newer_is_listed_and_a_variant_is_not_preferred(
    tmp_path: Path,
) -> None:
    build(tmp_path, "tflite-a", "2.14.0", "tflite-runtime", age_s=5)
    python = build(tmp_path, "tflite-b", "2.14.0", "tflite-runtime")
    assert environments_file.built(tmp_path) == [
        RuntimeEnvironment("tflite-b", "tflite", "2.14.0", python, preferred=False)
    ]


def test_what_has_lost_its_interpreter_or_was_never_whole_is_not_listed(tmp_path: Path) -> None:
    os.unlink(build(tmp_path, "onnxruntime-1.31.1-abc", "1.31.1"))
    (tmp_path / FOLDER / "tmp-x" / "env").mkdir(parents=True)
    assert environments_file.built(tmp_path) == []


def test_earlier_damaged_lists_are_kept(tmp_path: Path, file: Path) -> None:
    for number in (1, 2):
        file.write_text("{" * number)
        environments_file.read(file)
    kept = {path.name: path.read_text() for path in tmp_path.glob("*.damaged-*")}
    assert kept == {"environments.json.damaged-1": "{", "environments.json.damaged-2": "{{"}


def test_a_list_that_cannot_be_written_anew_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like a person who looks at another user's board. Root may write everywhere."""

    def refuse(path: Path, environments: object) -> None:
        raise PermissionError(13, "Permission denied")

    file.write_text("{")
    monkeypatch.setattr(environments_file, "write", refuse)
    with pytest.raises(BadInput, match=r"environments\.json: expected a list.*Permission denied"):
        environments_file.read(file)
    assert file.read_text() == "{"


def test_no_list_is_an_empty_one(file: Path) -> None:
    assert environments_file.read(file) == []
    assert not file.exists()
