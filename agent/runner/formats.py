"""In which precision a source artifact is: FP32, but for formats whose files tell."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

from agent.runner.errors import BadModel
from agent.tflite_graph import precision as tflite_precision
from agent.tflite_wire import NotTflite, read

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
        BadModel: not a file of that format.
    """
    known = precisions(format)
    if len(known) == 1:
        return known[0]
    try:
        return tflite_precision(read(source))
    except (NotTflite, FileNotFoundError) as error:
        raise BadModel("%s is not a TFLite model: %s" % (source.name, error)) from error
