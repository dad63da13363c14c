"""The files that the documentation's command lines name, as small as they can be."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper

from support.cli import make_onnx
from support.documented import ROOT
from support.environments import python_of
from support.onnx_files import model

KERAS = """
import os, sys
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow", KERAS_HOME=os.devnull)
import keras, numpy as np, tensorflow as tf
os.chdir(sys.argv[1])
weights = np.load("weights.npz")
x = keras.Input((64,), batch_size=1, name="x")
dense = keras.layers.Dense(10, name="y")
net = keras.Model(x, dense(x))
dense.set_weights([weights["w"], weights["b"]])
net.save("net.keras")
signature = [tf.TensorSpec((1, 64), tf.float32, "x")]
net.export(
    "saved_model_folder", format="tf_saved_model", input_signature=signature, verbose=False
)
made = tf.lite.TFLiteConverter.from_saved_model("saved_model_folder").convert()
open("net.tflite", "wb").write(made)
"""
TORCH = """
import sys, torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.conv(x).mean((2, 3))
free = {"x": {2: torch.export.Dim("height", min=8), 3: torch.export.Dim("width", min=8)}}
program = torch.export.export(Net().eval(), (torch.randn(1, 3, 16, 16),), dynamic_shapes=free)
torch.export.save(program, sys.argv[1])
"""
SHORT = {
    "min_duration_s": 0.0, "max_duration_s": 60.0, "warm_up_s": 0.0, "min_samples": 20,
    "target_relative_ci": 0.99,
}  # fmt: skip
"""A trial ends when it has its samples, however busy the machine is."""


def write_files(folder: Path) -> None:
    """``my.onnx``, ``free.onnx``, ``cats.onnx``, ``any_size.pt2``, one network as ``net.*``, data
    sets, sweeps."""
    random = np.random.default_rng(0)
    _write_onnx(folder, random)
    np.savez(folder / "net.npz", **_samples(random, 64, 10))
    np.savez(folder / "mine.npz", **_samples(random, 6, 6))
    np.savez(folder / "cats.npz", **_samples(random, 6, 2))
    for name, source, out in (
        ("tensorflow", KERAS, folder),
        ("pytorch", TORCH, folder / "any_size.pt2"),
    ):
        command = [python_of(name), "-c", source, str(out)]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
    (folder / "backups").mkdir()
    for sweep in sweeps():
        (folder / f"{sweep}.yaml").write_text(yaml.safe_dump(sweeps()[sweep]), encoding="utf-8")


def _write_onnx(folder: Path, random: np.random.Generator) -> None:
    make_onnx(folder / "my.onnx", shape=[1, 6])
    free = onnx.load(str(make_onnx(folder / "free.onnx", shape=["n", 3, "h", "w"])))
    free.graph.input[0].name = free.graph.node[0].input[0] = "input"
    onnx.save(free, str(folder / "free.onnx"))
    weights: dict[str, Any] = {
        "w": random.standard_normal((64, 10)).astype(np.float32),
        "b": np.zeros(10, np.float32),
    }
    np.savez(folder / "weights.npz", **weights)
    onnx.save(_dense(weights, "y"), str(folder / "net.onnx"))
    cats = {"w": weights["w"][:6, :1], "b": weights["b"][:1]}
    onnx.save(_dense(cats, "logit"), str(folder / "cats.onnx"))


def _dense(weights: dict[str, Any], output: str) -> onnx.ModelProto:
    """``output = x @ w + b``, for one sample."""
    sizes = zip(("x", output), weights["w"].shape, strict=True)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in sizes)
    return model([helper.make_node("Gemm", ["x", "w", "b"], [output])], [x], [y], weights)


def _samples(random: np.random.Generator, features: int, classes: int) -> dict[str, Any]:
    inputs = random.standard_normal((32, features)).astype(np.float32)
    labels = random.integers(0, classes, 32)
    return {"inputs": inputs, "labels": labels, "calibration": inputs[:8]}


def sweeps() -> dict[str, dict[str, object]]:
    """README's sweep and an example's, with few and short trials of the smallest model."""
    text = (ROOT / "README.md").read_text("utf-8")
    [block] = re.findall(r"```yaml\n(# sweep\.yaml\n.*?)```", text, re.DOTALL)
    example = (ROOT / "examples/compare-runtimes.yaml").read_text("utf-8")
    found = {"sweep": yaml.safe_load(block), "compare-runtimes": yaml.safe_load(example)}
    for spec in found.values():
        spec |= {"models": ["digits_cnn"], "trials": 1, "scenario": SHORT}
    return found
