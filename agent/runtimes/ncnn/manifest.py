"""ncnn. The wheel of pnnx depends on torch, which its Python part needs; the program in it, which
is what is used, does not."""

from __future__ import annotations

from agent.runtimes.manifest import NUMPY, Format, Recipe, Runtime

RUNTIME = Runtime(
    "ncnn",
    formats=(Format("ncnn", ".param", registered=False),),
    recipes=(Recipe("ncnn", "1.0.20261020", beside=(NUMPY,), bare=("pnnx==20261020",), mib=200),),
)
