"""Apache TVM (Relax)."""

from __future__ import annotations

from agent.runtimes.manifest import NUMPY, ONNX, Recipe, Runtime

_XGBOOST = "xgboost-cpu; platform_machine == 'x86_64'"
# onnxruntime quantises the int8 models for TVM.
_BESIDE = (ONNX, NUMPY, "onnxruntime==1.31.1", "psutil", "cloudpickle", _XGBOOST)
# Version 0.1.15.post2 crashes in MetaSchedule.
_HELD = ("apache-tvm-ffi==0.1.14.post1",)

RUNTIME = Runtime(
    "tvm",
    recipes=(
        Recipe("apache-tvm", "0.27.0", beside=_BESIDE, held=_HELD, mib=600),
        # The same with a linker for other architectures, which takes 400 MiB alone.
        Recipe(
            *("apache-tvm", "0.27.0"),
            beside=(*_BESIDE, "ziglang==0.17.0"),
            held=_HELD,
            variant="cross",
            mib=1000,
        ),
    ),
)
