"""PyTorch.

torch is installed by pip, first and alone, so that it is the build that pip is configured for, and
not a CUDA build that another requirement or tool pulls in.
"""

from __future__ import annotations

from agent.runtimes.manifest import NUMPY, ONNX, Format, Recipe, Runtime

RUNTIME = Runtime(
    "pytorch",
    formats=(Format("pt2", ".pt2", "pytorch", {"mode": "eager"}, "eager", rank=1),),
    recipes=(
        Recipe("torch", "2.13.0", beside=(ONNX, NUMPY, "onnxscript"), alone=True, mib=900),
        # The same with the converter to TFLite, which needs jax and much else.
        Recipe(
            *("torch", "2.13.0"),
            beside=("litert-torch==0.10.0", ONNX, NUMPY, "onnxscript"),
            variant="litert",
            alone=True,
            mib=2050,
        ),
    ),
)
