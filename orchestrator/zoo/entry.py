"""The catalogue's entry for an architecture, available without building it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ArchitectureInfo:
    """``parameters`` counts scalars with batch norm folded: each normalised convolution has a bias
    instead of a scale and a shift, so it is smaller than the published count by one scalar per
    normalised channel. ``input_shape`` is one sample's, NCHW without N. ``trained``: the weights
    come from training on ``dataset``; otherwise they are seeded, and only speed means something.
    """

    name: str
    description: str
    parameters: int
    input_shape: tuple[int, ...]
    trained: bool = False
    dataset: str | None = None


DATA = Path(__file__).parent / "data"
