"""OpenVINO, with NNCF for int8."""

from __future__ import annotations

from agent.runtimes.manifest import NUMPY, ONNX, Format, Recipe, Runtime

RUNTIME = Runtime(
    "openvino",
    formats=(Format("openvino_ir", ".xml", registered=False),),
    recipes=(
        Recipe(
            *("openvino", "2026.4.1"),
            beside=("nncf==3.4.0", ONNX, NUMPY),
            older=(("2026", ("nncf<3",)),),  # nncf 3 names types that OpenVINO 2025 lacks
            mib=550,
        ),
    ),
)
