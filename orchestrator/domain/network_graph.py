"""A network's graph in a form common to all formats: operators, tensors and their connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

Attribute = int | float | str | tuple[int, ...]

UNKNOWN = -1
"""A dimension that the file does not give."""


@dataclass(frozen=True)
class GraphTensor:
    """``shape``: sizes, or ``UNKNOWN`` for dimensions that the file does not give; ``None``:
    unknown rank. ``constant``: the file holds its value, as for weights."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    constant: bool = False

    @property
    def fixed(self) -> tuple[int, ...] | None:
        """The shape if all dimensions are known, else ``None``."""
        return None if self.shape is None or UNKNOWN in self.shape else self.shape


@dataclass(frozen=True)
class GraphNode:
    """One operator. ``inputs`` and ``outputs`` are keys of tensors, empty for omitted ones.

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
    """``nodes`` in topological order; ``tensors`` by key.

    ``origin``: format and version as text. ``weights``: keys of learnt constants, without shapes,
    axes and the like; ``elements``: how many values each holds, where its tensor's shape does not
    say so."""

    format: str
    origin: str
    nodes: tuple[GraphNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, GraphTensor]
    weights: frozenset[str]
    elements: Mapping[str, int] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return sum(map(self.weight_elements, self.weights))

    def weight_elements(self, key: str) -> int:
        """How many values a weight holds, 0 where it is unknown."""
        return self.elements.get(key, prod(self.shape(key) or (0,)))

    def shape(self, key: str) -> tuple[int, ...] | None:
        """A tensor's shape if all dimensions are known, else ``None``."""
        found = self.tensors.get(key)
        return None if found is None else found.fixed
