"""The formats of all runtimes' manifests: what a model may come in, and in which precision.

Standard library only, Python 3.8 syntax: the runner, the worker and the controller read it.
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
# Reversed: of the formats that share a suffix the first is meant.
SUFFIXES: Dict[str, str] = {f.suffix: f.name for f in reversed(_BY_RANK) if f.registered}
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
    return known[0] if len(known) == 1 else tflite_analysis.precision(read(source))
