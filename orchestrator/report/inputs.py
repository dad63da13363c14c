"""Input of the report: frozen data that the service layer reads from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from agent.contract.device import DeviceFacts
from agent.contract.trial import Option, Scenario, TrialResult


@dataclass(frozen=True)
class TrialData:
    """One accepted result.

    ``samples_ns``: shape (len(result.samples.series), count), int64 nanoseconds; row 0 is the
    latency that the caller saw. ``None`` where the trial has no samples, or they are not stored.
    """

    index: int
    attempt: int
    result: TrialResult
    samples_ns: NDArray[np.int64] | None = None

    def series_ns(self, name: str) -> NDArray[np.int64] | None:
        """The samples called ``name`` (``caller``, ``runtime``), shape (count,), or ``None``."""
        samples = self.result.samples
        if self.samples_ns is None or samples is None or name not in samples.series:
            return None
        row = samples.series.index(name)
        return self.samples_ns[row] if row < len(self.samples_ns) else None


@dataclass(frozen=True)
class CellData:
    """One configuration on one device, with all results accepted for it.

    ``state_counts``: number of trials per ``TrialState``. ``skip_reason``: why the cell was never
    dispatched, else empty. ``not_run``: how many of the failed trials were not run because those
    before them had failed. ``source_stored``: what the source file holds, in words, where its
    precision does not say it. ``unlike_runs``: output → how two runs of the source itself differ.
    """

    cell_id: str
    device: str
    device_class: str
    model: str
    backend: str
    version: str
    target: str
    precision: str
    threads: int
    batch_size: int
    options: Mapping[str, Option]
    calibration: str
    scenario: Scenario
    planned_trials: int
    trials: Sequence[TrialData]
    state_counts: Mapping[str, int] = field(default_factory=dict)
    skip_reason: str = ""
    source_size_bytes: int = 0
    format: str = ""
    via: str = ""
    not_run: int = 0
    source_stored: str = ""
    unlike_runs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepData:
    """A sweep. ``baseline``: fields of the cells that speed-ups are against, e.g.
    ``{"backend": "onnxruntime"}``."""

    name: str
    created_at: datetime
    state: str
    spec_yaml: str
    baseline: Mapping[str, str]
    cells: Sequence[CellData]
    devices: Mapping[str, DeviceFacts]
    benchfarm_version: str
