"""Raw samples cut down to what a chart can show; how, is said in each chart's caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.inputs import SweepData
from orchestrator.report.statistics.estimates import NS_PER_MS, MeasuredTrial, measured_trials

ECDF_POINTS = 101
"""Quantiles per cell: finer than a screen's pixels show, coarser than a megabyte of samples."""
TIME_BLOCKS = 60
"""Blocks per trial in the drift chart; each keeps its minimum, median and maximum."""


@dataclass(frozen=True)
class Block:
    """A stretch of consecutive samples of one trial: latencies in ms. ``at`` is the middle of the
    stretch in seconds of summed latency since the trial's first sample."""

    trial: int
    at_s: float
    low_ms: float
    median_ms: float
    high_ms: float


@dataclass(frozen=True)
class CellSeries:
    """``quantiles_ms`` has ``ECDF_POINTS`` values, at shares 0 to 1, of all trials' samples."""

    quantiles_ms: tuple[float, ...]
    timeline: tuple[Block, ...]
    samples: int


def chart_series(sweep: SweepData) -> Mapping[str, CellSeries]:
    """Per cell id; cells without a measured trial are left out."""
    found = {cell.cell_id: measured_trials(cell) for cell in sweep.cells}
    return {cell_id: _cell(trials) for cell_id, trials in found.items() if trials}


def _cell(trials: list[MeasuredTrial]) -> CellSeries:
    pooled = np.concatenate([t.caller_ns for t in trials]) / NS_PER_MS
    quantiles = np.quantile(pooled, np.linspace(0, 1, ECDF_POINTS))
    timeline = [b for t in trials for b in timeline_of(t.trial.index, t.caller_ns / NS_PER_MS)]
    return CellSeries(tuple(_short(q) for q in quantiles), tuple(timeline), len(pooled))


def timeline_of(trial: int, latency_ms: NDArray[np.float64]) -> list[Block]:
    """At most ``TIME_BLOCKS`` equal blocks of one trial's samples, shape (count,), in order."""
    clock_s = np.cumsum(latency_ms) / 1000
    edges = np.linspace(0, len(latency_ms), min(TIME_BLOCKS, len(latency_ms)) + 1).astype(int)
    made = []
    for start, end in pairwise(edges):
        part = latency_ms[start:end]
        low, middle, high = float(part.min()), float(np.median(part)), float(part.max())
        at_s = float(clock_s[(start + end - 1) // 2])
        made.append(Block(trial, _short(at_s), _short(low), _short(middle), _short(high)))
    return made


def _short(value: float) -> float:
    """Six significant digits: a pixel needs four."""
    return float(f"{float(value):.6g}")
