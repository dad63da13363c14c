"""A network as its file states it: operators, tensors and what joins them, whatever the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

Attribute = int | float | str | tuple[int, ...]

UNKNOWN = -1
"""A dimension that nothing in the file tells."""


@dataclass(frozen=True)
class GraphTensor:
    """``shape``: sizes, ``UNKNOWN`` where the file does not tell one; ``None``: not even how many.

    ``constant``: its value is in the file, as weights are."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    constant: bool = False

    @property
    def fixed(self) -> tuple[int, ...] | None:
        """The shape where all of it is known."""
        return None if self.shape is None or UNKNOWN in self.shape else self.shape


@dataclass(frozen=True)
class GraphNode:
    """One operator. ``inputs`` and ``outputs`` are keys of tensors, empty for one left out.

    ``domain``: empty for the format's own operators. ``bodies``: the operators of the graphs that
    a control-flow operator runs."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    domain: str = ""
    bodies: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkGraph:
    """``nodes`` in an order in which they may run; ``tensors`` by key.

    ``origin``: format and version, for people. ``weights``: the constants that were learnt, which
    shapes, axes and the like are not."""

    format: str
    origin: str
    nodes: tuple[GraphNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, GraphTensor]
    weights: frozenset[str]

    @property
    def parameters(self) -> int:
        shapes = [self.shape(key) for key in self.weights]
        return sum(prod(shape) for shape in shapes if shape is not None)

    def shape(self, key: str) -> tuple[int, ...] | None:
        """A tensor's shape where all of it is known."""
        found = self.tensors.get(key)
        return None if found is None else found.fixed
