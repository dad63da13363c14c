"""The model formats that the runtimes' manifests declare, and the precision of a file.

Standard library only, Python 3.8 syntax: runner, worker and controller use it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

from agent.formats import tflite_analysis
from agent.formats.tflite import read
from agent.runtimes.manifest import Format
from agent.runtimes.registry import RUNTIMES

_BY_RANK = sorted((f for r in RUNTIMES.values() for f in r.formats), key=lambda f: f.rank)
FORMATS: Dict[str, Format] = {f.name: f for f in _BY_RANK}
SOURCES: Tuple[str, ...] = tuple(f.name for f in FORMATS.values() if f.registered)
"""The formats that a model may be registered from, the preferred ones first."""
# Reversed: where formats share a suffix, the first one wins.
SUFFIXES: Dict[str, str] = {f.suffix: f.name for f in reversed(_BY_RANK) if f.registered}
"""Suffix → the format that it means unless another is named."""


MIN_COSINE: Dict[str, float] = {
    "fp32": 0.9999,
    "fp16": 0.999,
    "bf16": 0.99,
    "int8": 0.9,
    "fp8": 0.9,
    "int4": 0.9,
}
"""Precision → least cosine of a conversion's outputs against its source's: far below what a correct
conversion gives, far above what a wrong one does. A quantised network of poor accuracy is a finding
of the trial, not a fault of the conversion."""


def precisions(format: str) -> Tuple[str, ...]:
    """The precisions that a file of ``format`` may be in."""
    return FORMATS[format].precisions if format in FORMATS else ("fp32",)


def told_by_file(format: str) -> bool:
    """Whether the agent reads the precision from the file; of other formats the controller reads it
    when the file is registered, and names it in ``ModelRef``."""
    return format == "tflite"


def precision(format: str, source: Path) -> str:
    """The precision of the file ``source`` where nobody named it, read if ``told_by_file``.

    Raises:
        NotTflite: it should be a TFLite file, and is not.
        OSError: it cannot be read.
    """
    if told_by_file(format):
        return tflite_analysis.precision(read(source))
    return precisions(format)[0]
