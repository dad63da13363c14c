"""TensorFlow Lite's interpreter, from either of the two packages that hold it."""

from __future__ import annotations

from agent.runtimes.manifest import NUMPY, Format, Recipe, Runtime

RUNTIME = Runtime(
    "tflite",
    formats=(
        Format(
            *("tflite", ".tflite", "tflite"),
            options={"kernels": "reference"},
            how="reference kernels",
            precisions=("fp32", "fp16", "int8"),
            rank=2,
        ),
    ),
    recipes=(
        Recipe("ai-edge-litert", "2.3.0", beside=(NUMPY,), variant="litert", mib=150),
        # With numpy 2 it can be imported, but Interpreter() crashes.
        Recipe(
            *("tflite-runtime", "2.14.0"),
            held=("numpy<2",),
            variant="tflite-runtime",
            newest_python=(3, 11),
            mib=100,
            lock="requirements-tflite-runtime.lock",
        ),
    ),
)
