"""The formats that a model may come in, in which precision a file of one is, and which backend
computes the reference of one.

Standard library only, Python 3.8 syntax: the runner, the worker and the controller read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Tuple

from agent import tflite_graph
from agent.contract import Options
from agent.tflite_wire import read


@dataclass(frozen=True)
class Format:
    """``suffix``: how its files' names end; runtimes go by it. ``registered``: a model may be
    registered from such a file. ``precisions``: those that one may be in.

    ``backend`` computes the reference of such a source, with ``options`` that optimise nothing
    away, ``how`` in words; empty: no reference can be computed on any machine.
    """

    name: str
    suffix: str
    backend: str = ""
    options: Options = field(default_factory=dict)
    how: str = ""
    precisions: Tuple[str, ...] = ("fp32",)
    registered: bool = True


_GRAPPLER_OFF: Options = {"grappler": "off"}
_ALL = (
    Format(
        *("onnx", ".onnx", "onnxruntime"),
        options={"graph_optimization": "disable"},
        how="graph optimisation off",
    ),
    Format("pt2", ".pt2", "pytorch", {"mode": "eager"}, "eager"),
    Format(
        *("tflite", ".tflite", "tflite"),
        options={"kernels": "reference"},
        how="reference kernels",
        precisions=("fp32", "fp16", "int8"),
    ),
    Format("keras", ".keras", "tensorflow", _GRAPPLER_OFF, "grappler off"),
    Format("h5", ".h5", "tensorflow", _GRAPPLER_OFF, "grappler off"),
    # A folder, registered as an archive of it.
    Format("savedmodel", ".zip", "tensorflow", _GRAPPLER_OFF, "grappler off"),
    Format("frozen_pb", ".pb", "tensorflow", _GRAPPLER_OFF, "grappler off"),
    Format("optimised_pb", ".pb", "tensorflow", _GRAPPLER_OFF, "grappler off"),
    Format("edgetpu_tflite", ".tflite", precisions=("int8",)),
    Format("openvino_ir", ".xml", registered=False),
    Format("executorch_pte", ".pte", registered=False),
    Format("ncnn", ".param", registered=False),
)
FORMATS: Dict[str, Format] = {f.name: f for f in _ALL}
SOURCES: Tuple[str, ...] = tuple(f.name for f in _ALL if f.registered)
"""The formats that a model may be registered from."""
# Reversed: of the formats that share a suffix the first is meant.
SUFFIXES: Dict[str, str] = {f.suffix: f.name for f in reversed(_ALL) if f.registered}
"""Suffix → the format that it means where nothing more is said."""


MIN_COSINE: Dict[str, float] = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.99, "int8": 0.9}
"""When a conversion's result still computes what its source does, by its precision: far below what
a right conversion gives, far above what a wrong one does. A quantised network that is merely poor
is a finding of the trial's, not a fault of the conversion."""


def precisions(format: str) -> Tuple[str, ...]:
    """Those that a source of ``format`` may be in."""
    return FORMATS[format].precisions if format in FORMATS else ("fp32",)


def precision(format: str, source: Path) -> str:
    """The one that ``source`` is in; only a file of more than one possible is read.

    Raises:
        NotTflite: it is to be a TFLite file, and is none.
        OSError: it cannot be read.
    """
    known = precisions(format)
    return known[0] if len(known) == 1 else tflite_graph.precision(read(source))
