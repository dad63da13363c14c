"""Whatever a user gets wrong: exit code 2, one message naming file, key and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cli import Shell, make_onnx

GOOD = "models: [digits_cnn]\nruntimes: [{backend: onnxruntime}]\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"name: a\n{GOOD}trails: 3\n", ["trails", "accepted here", "trials"]),
        (f"name: a\n{GOOD[:-3]}, presicion: fp32}}]\n", ["presicion", "precision"]),
        (f"name: a\n{GOOD}trials: many\n", ["trials", "many"]),
        (f"{GOOD}", ["name", "missing"]),
        ("just text", ["mapping"]),
        ("name: [", ["not YAML"]),
        (
            f"name: a\n{GOOD}devices: {{select: {{class: toaster}}}}\n",
            ["no device matches", "bench"],
        ),
        (
            "name: a\nmodels: [nothing]\nruntimes: [{backend: onnxruntime}]\n",
            ["no model 'nothing'"],
        ),
        (
            "name: a\nmodels: [digits_cnn]\nruntimes: [{backend: tensortt}]\n",
            ["tensortt", "openvino"],
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
    before = _models_and_blobs(shell)
    for name, words in {
        "absent.onnx": "no such file",
        "empty.onnx": "empty",
        "cut.onnx": "not a valid ONNX model",
        "text.onnx": "not a valid ONNX model",
        "model.xyz": ".onnx",
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
