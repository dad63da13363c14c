"""ncnn. The wheel of pnnx names torch as a dependency: its Python part needs it, the program that
is used here does not."""

from __future__ import annotations

from agent.runtimes.manifest import NUMPY, Format, Recipe, Runtime

RUNTIME = Runtime(
    "ncnn",
    formats=(Format("ncnn", ".param", registered=False),),
    recipes=(Recipe("ncnn", "1.0.20261020", beside=(NUMPY,), bare=("pnnx==20261020",), mib=200),),
)
