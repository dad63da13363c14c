"""Finds architectures by name: one module each in ``architectures``, with ``INFO`` and ``build``.

A new architecture is one new file there: ``INFO: Info`` and ``build(seed: int) -> Network``.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from orchestrator.zoo import architectures
from orchestrator.zoo.entry import DATA, ArchitectureInfo
from orchestrator.zoo.errors import UnknownArchitecture
from orchestrator.zoo.network import Network


def names() -> list[str]:
    """All architectures, sorted."""
    return sorted(found.name for found in pkgutil.iter_modules(architectures.__path__))


def load(name: str, seed: int = 0) -> Network:
    """The network with its weights; ``seed`` has no effect on a trained one.

    Raises UnknownArchitecture; for a trained one also ToolMissing (no ``onnx``), WeightsMismatch.
    """
    network: Network = _module(name).build(seed)
    return network


def info(name: str) -> ArchitectureInfo:
    """The architecture's entry, without building it. Raises UnknownArchitecture."""
    found: ArchitectureInfo = _module(name).INFO
    return found


def dataset_path(name: str) -> Path:
    """The shipped data set of that name: an ``.npz`` with ``inputs`` (held out, float32, one
    sample's shape each), ``labels`` (int64) and ``calibration`` (training part, float32).

    Raises UnknownArchitecture if none of that name is shipped.
    """
    found = {path.stem: path for path in sorted(DATA.glob("*.npz"))}
    if name not in found:
        raise UnknownArchitecture(f"no data set {name!r}; there are: {', '.join(found)}")
    return found[name]


def _module(name: str) -> ModuleType:
    if name not in names():
        raise UnknownArchitecture(f"no architecture {name!r}; there are: {', '.join(names())}")
    return importlib.import_module(f"{architectures.__name__}.{name}")
