"""What the report is made from: plain frozen data that the service layer fills from the store."""

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

    ``samples_ns`` has shape (len(result.samples.series), count), int64 nanoseconds; row 0 is what
    the caller saw. ``None`` where the trial gave none, or its blob has not arrived.
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
    """One configuration on one device, and every result accepted for it, whatever its status.

    ``state_counts`` counts the trials per state (the trial's state machine names them);
    ``skip_reason`` is set where the cell was never dispatched. ``not_run`` of the failed trials
    were given up after those before them had failed.
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


@dataclass(frozen=True)
class SweepData:
    """A sweep. ``baseline`` names what speed-ups are against: ``{"backend": "onnxruntime"}``."""

    name: str
    created_at: datetime
    state: str
    spec_yaml: str
    baseline: Mapping[str, str]
    cells: Sequence[CellData]
    devices: Mapping[str, DeviceFacts]
    benchfarm_version: str
