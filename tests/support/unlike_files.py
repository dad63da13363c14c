"""Networks that draw random numbers and keep state, written by their frameworks."""

from __future__ import annotations

import subprocess
from pathlib import Path

_PROGRAM = """
import sys, torch
class Unlike(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.linear = torch.nn.Linear(8, 4)
    def forward(self, x):
        self.count.add_(1.0)
        y = self.linear(x)
        return y, torch.nn.functional.dropout(y, 0.5, training=True), y + self.count
torch.export.save(torch.export.export(Unlike().train(), (torch.ones(1, 8),)), sys.argv[1])
"""
_SAVEDMODEL = """
import os, sys, tempfile, zipfile
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3")
import tensorflow as tf
class Unlike(tf.Module):
    def __init__(self):
        self.count, self.w = tf.Variable(0.0), tf.Variable(tf.random.normal((8, 4)))
    @tf.function(input_signature=[tf.TensorSpec((1, 8), tf.float32, "x")])
    def call(self, x):
        self.count.assign_add(1.0)
        y = x @ self.w
        return {"plain": y, "noise": y + tf.random.normal((1, 4)), "count": y + self.count}
net = Unlike()
with tempfile.TemporaryDirectory() as folder:
    tf.saved_model.save(net, folder, signatures=net.call)
    with zipfile.ZipFile(sys.argv[1], "w") as archive:
        for root, _, files in os.walk(folder):
            for file in files:
                path = os.path.join(root, file)
                archive.write(path, os.path.relpath(path, folder))
"""


def write_program(python: str, path: Path) -> None:
    """A ``.pt2`` of three outputs: a plain one, one with dropout in use, one with a counter."""
    _run(python, _PROGRAM, path)


def write_savedmodel(python: str, path: Path) -> None:
    """An archive of a SavedModel with the outputs ``plain``, ``noise`` and ``count``."""
    _run(python, _SAVEDMODEL, path)


def _run(python: str, code: str, path: Path) -> None:
    subprocess.run([python, "-c", code, str(path)], check=True, capture_output=True, timeout=300)
