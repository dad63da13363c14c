"""PELT's cost function for changes in mean and variance. Import it inside functions: ``ruptures``
takes seconds to import."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ruptures.base import BaseCost


class GaussianCost(BaseCost):  # type: ignore[misc]
    """n ln σ² of a segment: ``ruptures``' ``normal`` cost, in constant time by cumulative sums.

    ``min_variance`` bounds σ² from below. Without it the likelihood of a run of equal values, as a
    coarse tick makes them, is unbounded, and each run would become a segment.
    """

    model = "gaussian"

    def __init__(self, min_variance: float, min_size: int) -> None:
        self.min_variance = min_variance
        self.min_size = min_size
        self.sums: list[float] = []
        self.squares: list[float] = []

    def fit(self, signal: Any) -> GaussianCost:
        """Running sums of ``signal``, shape (n, 1), of zero mean and unit variance."""
        self.signal = signal
        flat = np.asarray(signal, dtype=np.float64).ravel()
        self.sums = np.concatenate([[0.0], np.cumsum(flat)]).tolist()
        self.squares = np.concatenate([[0.0], np.cumsum(flat * flat)]).tolist()
        return self

    def error(self, start: int, end: int) -> float:
        """Cost of the segment [start, end)."""
        n = end - start
        mean = (self.sums[end] - self.sums[start]) / n
        variance = (self.squares[end] - self.squares[start]) / n - mean * mean
        return n * math.log(max(variance, self.min_variance))
