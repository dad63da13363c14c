"""Raw samples reduced to what a chart can show; each chart's caption says how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.inputs import SweepData
from orchestrator.report.statistics.estimates import NS_PER_MS, MeasuredTrial, measured_trials

ECDF_POINTS = 101
"""Quantiles per cell in the distribution chart: one per per cent."""
TIME_BLOCKS = 60
"""Blocks per trial in the timeline chart; each keeps its minimum, median and maximum."""


@dataclass(frozen=True)
class Block:
    """A block of consecutive samples of one trial: latencies in ms. ``at_s`` is the middle of the
    block, in seconds of summed latency since the trial's first sample."""

    trial: int
    at_s: float
    low_ms: float
    median_ms: float
    high_ms: float


@dataclass(frozen=True)
class CellSeries:
    """``quantiles_ms``: ``ECDF_POINTS`` quantiles of all trials' samples, from 0 to 1 in equal
    steps; each trial counts the same, however many samples it has. ``samples``: how many samples
    they are taken from."""

    quantiles_ms: tuple[float, ...]
    timeline: tuple[Block, ...]
    samples: int


def chart_series(sweep: SweepData) -> Mapping[str, CellSeries]:
    """The charts' data per cell id; cells without a measured trial are left out."""
    found = {cell.cell_id: measured_trials(cell) for cell in sweep.cells}
    return {cell_id: _cell(trials) for cell_id, trials in found.items() if trials}


def _cell(trials: list[MeasuredTrial]) -> CellSeries:
    pooled = np.concatenate([t.caller_ns for t in trials]) / NS_PER_MS
    # A slow trial has fewer samples where a time limit ended it, and is no less a trial.
    weights = np.concatenate([np.full(len(t.caller_ns), 1 / len(t.caller_ns)) for t in trials])
    steps = np.linspace(0, 1, ECDF_POINTS)
    quantiles = np.quantile(pooled, steps, weights=weights, method="inverted_cdf")
    timeline = [b for t in trials for b in timeline_of(t.trial.index, t.caller_ns / NS_PER_MS)]
    return CellSeries(tuple(_rounded(q) for q in quantiles), tuple(timeline), len(pooled))


def timeline_of(trial: int, latency_ms: NDArray[np.float64]) -> list[Block]:
    """At most ``TIME_BLOCKS`` equal blocks of one trial's samples, shape (count,), in order."""
    clock_s = np.cumsum(latency_ms) / 1000
    edges = np.linspace(0, len(latency_ms), min(TIME_BLOCKS, len(latency_ms)) + 1).astype(int)
    made = []
    for start, end in pairwise(edges):
        part = latency_ms[start:end]
        low, middle, high = float(part.min()), float(np.median(part)), float(part.max())
        at_s = float(clock_s[(start + end - 1) // 2])
        made.append(Block(trial, _rounded(at_s), _rounded(low), _rounded(middle), _rounded(high)))
    return made


def _rounded(value: float) -> float:
    """Six significant digits, more than a pixel needs, to keep the page small."""
    return float(f"{float(value):.6g}")
