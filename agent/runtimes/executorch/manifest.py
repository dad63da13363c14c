"""ExecuTorch. Its wheels are linked against torch, which their metadata does not name."""

from __future__ import annotations

from agent.runtimes.manifest import NUMPY, Format, Recipe, Runtime

RUNTIME = Runtime(
    "executorch",
    formats=(Format("executorch_pte", ".pte", registered=False),),
    recipes=(Recipe("executorch", "1.5.1", beside=(NUMPY,), before=("torch==2.13.0",), mib=1400),),
)
