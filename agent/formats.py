"""The formats that a model may come in, and in which precision a file of one is.

FP32, but for formats whose files tell.

Standard library only, Python 3.8 syntax: the worker plans with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

from agent import tflite_graph
from agent.tflite_wire import read

SOURCES = (
    "onnx",
    "pt2",
    "tflite",
    "edgetpu_tflite",
    "keras",
    "h5",
    "savedmodel",
    "frozen_pb",
    "optimised_pb",
)

_TOLD: Dict[str, Tuple[str, ...]] = {
    "tflite": ("fp32", "fp16", "int8"),
    "edgetpu_tflite": ("int8",),
}


def precisions(format: str) -> Tuple[str, ...]:
    """Those that a source of ``format`` may be in."""
    return _TOLD.get(format, ("fp32",))


def precision(format: str, source: Path) -> str:
    """The one that ``source`` is in; only a file of more than one possible is read.

    Raises:
        NotTflite: it is to be a TFLite file, and is none.
        OSError: it cannot be read.
    """
    known = precisions(format)
    return known[0] if len(known) == 1 else tflite_graph.precision(read(source))
