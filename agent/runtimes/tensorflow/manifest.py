"""TensorFlow with Keras. On ARM the package without CUDA is plain ``tensorflow``."""

from __future__ import annotations

from agent.contract.trial import Options
from agent.runtimes.manifest import NUMPY, ONNX, Format, Recipe, Runtime

_GRAPPLER_OFF: Options = {"grappler": "off"}

RUNTIME = Runtime(
    "tensorflow",
    formats=tuple(
        Format(name, suffix, "tensorflow", _GRAPPLER_OFF, "grappler off", rank=3)
        for name, suffix in (
            ("keras", ".keras"),
            ("h5", ".h5"),
            ("savedmodel", ".zip"),  # a folder, registered as an archive of it
            ("frozen_pb", ".pb"),
            ("optimised_pb", ".pb"),
        )
    ),
    recipes=(
        Recipe(
            *("tensorflow-cpu", "2.21.0"),
            beside=("tf2onnx==1.17.0", ONNX, NUMPY),
            on={"aarch64": "tensorflow"},
            mib=1500,
        ),
    ),
)
