"""Mistakes of users: exit code 2, and one message that names file, key and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import malicious
from support.cli import Shell, make_onnx

GOOD = "models: [digits_cnn]\nruntimes: [{backend: onnxruntime}]\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            f"name: a\n{GOOD}trails: 3\n",
            ["bad.yaml:4: unknown key 'trails'", "accepted here", "trials"],
        ),
        (
            f"name: a\n{GOOD[:-3]}, presicion: fp32}}]\n",
            ["bad.yaml:3: unknown key 'runtimes.0.presicion'", "precision"],
        ),
        (f"name: a\n{GOOD}trials: many\n", ["trials", "many"]),
        (f"{GOOD}", ["name", "missing"]),
        ("just text", ["mapping"]),
        ("name: [", ["not YAML"]),
        (
            f"name: a\n{GOOD}devices: {{select: {{class: toaster}}}}\n",
            ["bad.yaml:4: devices: no device matches", "bench"],
        ),
        (
            "name: a\nmodels: [nothing]\nruntimes: [{backend: onnxruntime}]\n",
            ["bad.yaml:2: models: there is no model 'nothing'"],
        ),
        (
            "name: a\nmodels: [digits_cnn]\nruntimes: [{backend: tensortt}]\n",
            ["bad.yaml:3: runtimes: unknown backend 'tensortt'", "openvino"],
        ),
        (
            "name: a\nmodels: [digits_cnn]\nruntimes: [{backend: onnxruntime, target: GPU}]\n",
            ["no cell", "GPU", "CPU"],
        ),
    ],
)
def test_a_bad_spec_is_refused(shell: Shell, tmp_path: Path, text: str, named: list[str]) -> None:
    spec = tmp_path / "bad.yaml"
    spec.write_text(text)
    message = shell.refused("sweep", "run", spec)
    for words in named:
        assert words in message
    assert "a" not in [s["name"] for s in json.loads(shell.fine("sweep", "list", "-o", "json"))]


def test_a_missing_spec_is_refused(shell: Shell, tmp_path: Path) -> None:
    assert "absent.yaml" in shell.refused("sweep", "plan", tmp_path / "absent.yaml")


def test_bad_model_files_are_refused_and_leave_nothing(shell: Shell, tmp_path: Path) -> None:
    whole = make_onnx(tmp_path / "whole.onnx", shape=[1, 64]).read_bytes()
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.onnx").write_text("this is not a model\n" * 50)
    (tmp_path / "model.xyz").write_bytes(whole)
    (tmp_path / "bomb.onnx").write_bytes(malicious.onnx_bomb())
    (tmp_path / "bomb.tflite").write_bytes(malicious.tflite_bomb())
    before = _models_and_blobs(shell)
    for name, words in {
        "absent.onnx": "no such file",
        "empty.onnx": "empty",
        "cut.onnx": "not a valid ONNX model",
        "text.onnx": "not a valid ONNX model",
        "model.xyz": ".onnx",
        "bomb.onnx": "it could not be read within 60 s and 4096 MiB: it wanted more memory",
        "bomb.tflite": "it could not be read within 60 s and 4096 MiB: it wanted more memory",
    }.items():
        message = shell.refused("model", "add", tmp_path / name)
        assert name in message
        assert words in message
    assert _models_and_blobs(shell) == before


def test_a_free_shape_wants_a_shape(shell: Shell, tmp_path: Path) -> None:
    path = make_onnx(tmp_path / "free.onnx", shape=["batch", 3, "height", 8])
    message = shell.refused("model", "add", path)
    assert "free.onnx" in message
    assert "height" in message
    assert "--shape x=1,3,1,8" in message
    assert "declares" in shell.refused("model", "add", path, "--shape", "x=1,4,8,8")
    assert "[1, 3, 8, 8]" in shell.fine("model", "add", path, "--shape", "x=1,3,8,8")


def test_a_newer_opset_is_named_with_what_is_supported(shell: Shell, tmp_path: Path) -> None:
    message = shell.refused("model", "add", make_onnx(tmp_path / "new.onnx", shape=[1], opset=99))
    assert "too old for this model: ONNX Runtime only" in message
    assert "Opset 99" in message


def test_what_cannot_be_written_is_said_before_the_work(shell: Shell, tmp_path: Path) -> None:
    spec = tmp_path / "good.yaml"
    spec.write_text(f"name: unwritable\n{GOOD}")
    absent = tmp_path / "absent" / "report.html"
    for words in (("sweep", "run", spec), ("sweep", "watch", "x"), ("report", "x")):
        message = shell.refused(*words, "--html", absent)
        assert str(absent) in message
        assert "folder" in message
    assert "unwritable" not in shell.fine("sweep", "list")


@pytest.mark.parametrize(
    ("words", "settings", "named"),
    [
        (("device", "list"), {"BENCHFARM_URL": "farm"}, "http://HOST:PORT"),
        (("device", "list"), {"BENCHFARM_PORT": "many"}, "BENCHFARM_PORT"),
        (("model", "add", ".", "--shape", "x=1,3"), {}, "holds no saved_model.pb"),
        (("model", "add", ".", "--shape", "1,3"), {}, "expected INPUT=1,3,224,224"),
        (("model", "add", "m.onnx", "--dataset", "."), {}, "there is no such file"),
        (("up", "--port", "0"), {"BENCHFARM_HOME": "/proc/none"}, "another --home"),
    ],
)
def test_other_slips_are_one_message_too(
    shell: Shell, words: tuple[str, ...], settings: dict[str, str], named: str
) -> None:
    assert named in Shell(shell.home, {**shell.environment, **settings}).refused(*words)


def test_a_database_that_is_not_there_is_named_without_its_password(
    shell: Shell, tmp_path: Path
) -> None:
    settings = {
        "BENCHFARM_HOME": str(tmp_path),
        "BENCHFARM_DATABASE_URL": "postgresql+psycopg://me:secret@127.0.0.1:1/farm",
    }
    ended = Shell(tmp_path, {**shell.environment, **settings})("up", "--port", "0")
    assert ended.returncode == 1
    assert "BENCHFARM_DATABASE_URL" in ended.stderr
    assert "secret" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_controller_the_message_says_how_to_start_one(
    shell: Shell, tmp_path: Path
) -> None:
    ended = Shell(tmp_path, {**shell.environment, "BENCHFARM_HOME": str(tmp_path)})(
        "device", "list"
    )
    assert ended.returncode == 1
    assert "benchfarm up" in ended.stderr


def _models_and_blobs(shell: Shell) -> tuple[list[str], list[str]]:
    models = [m["name"] for m in json.loads(shell.fine("model", "list", "-o", "json"))]
    return models, sorted(p.name for p in (shell.home / "blobs").rglob("*") if p.is_file())
