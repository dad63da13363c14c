"""Coral's Edge TPU: its driver and library come from Coral only."""

from __future__ import annotations

from agent.runtimes.manifest import Format, Runtime

RUNTIME = Runtime(
    "edgetpu",
    formats=(Format("edgetpu_tflite", ".tflite", precisions=("int8",), rank=9),),
    remedy="the Edge TPU needs Coral's libedgetpu1-std and a Python interpreter that has "
    "tflite-runtime or Coral's own pycoral: install them from Coral, then",
    refused={
        "pycoral": "the package of that name in the public index is another project and is never "
        "installed; Coral's own comes from Coral's package source: install it there, then run "
        "`benchfarm-agent runtimes add edgetpu --python PATH`",
    },
)
