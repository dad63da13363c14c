"""ONNX Runtime."""

from __future__ import annotations

from agent.contract.trial import PRECISIONS
from agent.runtimes.manifest import NUMPY, ONNX, Format, Recipe, Runtime

RUNTIME = Runtime(
    "onnxruntime",
    formats=(
        Format(
            *("onnx", ".onnx", "onnxruntime"),
            options={"graph_optimization": "disable"},
            how="graph optimisation off",
            precisions=PRECISIONS,
            rank=0,
        ),
    ),
    recipes=(Recipe("onnxruntime", "1.31.1", beside=(ONNX, NUMPY), mib=200),),
)
