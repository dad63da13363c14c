"""Change points in mean and variance of a trial's samples, by PELT from ``ruptures``."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_BLOCKS = 500
"""PELT evaluates its cost about n² times in Python, which takes hours for a million samples.
Medians of at most 500 equal blocks locate a change point to 0.2 % of the trial, and are not moved
by single interrupted inferences."""
GRID = 5
"""PELT's ``jump`` and ``min_size``, in blocks: a segment is at least 1 % of the trial long."""
PENALTY = 15.0
"""Penalty per change point, in units of ln n: Barrett et al., OOPSLA 2017, section 4."""


def blocks(samples: ArrayLike, most: int = MAX_BLOCKS) -> NDArray[np.float64]:
    """Medians of ``most`` consecutive blocks of nearly equal length, shape (most,); fewer samples
    are returned as they are."""
    values = np.asarray(samples, dtype=np.float64)
    if len(values) <= most:
        return values
    edges = np.linspace(0, len(values), most + 1).astype(int)
    return np.array([np.median(values[a:b]) for a, b in pairwise(edges)])


def change_points(series: NDArray[np.float64]) -> list[int]:
    """End indices of the segments of ``series``, shape (n,); the last is n.

    PELT with the Gaussian cost of a change in mean and variance and penalty 15 ln n.
    Source: Killick, Fearnhead and Eckley, JASA 107, 2012; library ``ruptures``.
    """
    # Imported here: ruptures and SciPy take seconds, too long for the controller's start.
    from ruptures import Pelt

    from orchestrator.report.statistics.gaussian_cost import GaussianCost

    n, spread = len(series), float(series.std())
    if n < 2 * GRID or spread <= 1e-9 * abs(float(series.mean())):
        return [n]
    # Rounding to steps of h hides a variance of h²/12 (Sheppard's correction).
    step = float(np.diff(np.unique(series)).min()) / spread
    cost = GaussianCost(max(step * step / 12, 1e-9), GRID)
    scaled = ((series - series.mean()) / spread).reshape(-1, 1)
    search = Pelt(custom_cost=cost, min_size=GRID, jump=GRID).fit(scaled)
    return [int(end) for end in search.predict(pen=PENALTY * math.log(n))]
