"""Sources of a network's weights: a seed, or arrays from training.

Seeded weights are reproducible to the bit on every machine: a parameter's stream depends on nothing
but the network's seed and the parameter's own name, and its values are uniform, which takes integer
draws and multiplications only. Normal deviates would go through the platform's ``log``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.zoo.errors import ToolMissing, WeightsMismatch

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Parameter:
    """One weight array. ``std`` is the standard deviation of a seeded draw (0: zeros)."""

    name: str
    shape: tuple[int, ...]
    std: float

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Weights(Protocol):
    """Returns a parameter's array: float32, of its shape, the same at every call."""

    def array(self, parameter: Parameter) -> FloatArray: ...


@dataclass(frozen=True)
class SeededWeights:
    """Zero-mean uniform weights of each parameter's standard deviation, from ``seed``.

    ``numpy.random.RandomState`` is used because NumPy froze its streams (NEP 19); those of
    ``Generator`` may change between releases.
    """

    seed: int = 0

    def array(self, parameter: Parameter) -> FloatArray:
        digest = hashlib.sha256(f"{self.seed}:{parameter.name}".encode()).digest()
        # An explicit byte order keeps the stream the same on big-endian machines.
        state = np.random.RandomState(np.frombuffer(digest, dtype="<u4").astype(np.uint32))
        # A uniform draw from [-b, b) has standard deviation b / sqrt(3).
        bound = math.sqrt(3.0) * parameter.std
        draw = state.random_sample(parameter.shape)
        return np.asarray((2.0 * draw - 1.0) * bound, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """Trained weights. ``origin`` names their file in error messages."""

    arrays: Mapping[str, FloatArray]
    origin: str

    def array(self, parameter: Parameter) -> FloatArray:
        """Raises WeightsMismatch if the parameter is missing or has another shape."""
        found = self.arrays.get(parameter.name)
        if found is None:
            raise WeightsMismatch(
                f"{self.origin} has no parameter {parameter.name!r}; it has: "
                + ", ".join(sorted(self.arrays))
            )
        if found.shape != parameter.shape:
            raise WeightsMismatch(
                f"{self.origin}: parameter {parameter.name!r} has shape {found.shape}, "
                f"the architecture wants {parameter.shape}"
            )
        return found


def total_size(parameters: Iterable[Parameter]) -> int:
    """Sum of the parameters' element counts."""
    return sum(parameter.size for parameter in parameters)


def read_onnx_weights(path: Path) -> StoredWeights:
    """The float32 initialisers of an ONNX file, by name.

    Raises ToolMissing without the ``onnx`` package, OSError if the file cannot be read.
    """
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise ToolMissing(
            "reading weights needs onnx: pip install 'benchfarm[controller]'"
        ) from error
    model = onnx.load(path)
    arrays = {
        tensor.name: np.asarray(onnx.numpy_helper.to_array(tensor), dtype=np.float32)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    return StoredWeights(arrays, origin=path.name)
