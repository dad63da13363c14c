"""Raw latency samples of one cell as a table, one row a sample, and as files of it.

The columns are those of ``DTYPE`` in every format; ``docs/sweeps.md`` says what they mean.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.inputs import TrialData

DTYPE = np.dtype(
    [
        ("cell", "<i8"),
        ("trial_id", "<i8"),
        ("trial", "<i4"),
        ("attempt", "<i4"),
        ("status", "S12"),
        ("calls_per_sample", "<i4"),
        ("sample", "<i8"),
        ("caller_ns", "<i8"),
        ("runtime_ns", "<i8"),
    ]
)
NO_RUNTIME_NS = 0
"""Stands in ``runtime_ns`` of an array where the runtime reports no latency of its own; the other
formats have an empty value or null."""
CHUNK = 65_536


@dataclass(frozen=True)
class SampledTrial:
    """A trial with its samples; ``trial_id`` is its identifier in the farm."""

    trial_id: int
    data: TrialData


def records(cell: int, trials: Sequence[SampledTrial]) -> NDArray[Any]:
    """The samples of all trials in the order in which they were taken; of ``DTYPE``, shape (n,)."""
    return np.concatenate([np.empty(0, DTYPE), *(_of_trial(cell, trial) for trial in trials)])


def _of_trial(cell: int, trial: SampledTrial) -> NDArray[Any]:
    result, caller = trial.data.result, trial.data.series_ns("caller")
    if caller is None:
        return np.empty(0, DTYPE)
    found = np.zeros(len(caller), DTYPE)
    found["cell"], found["trial_id"] = cell, trial.trial_id
    found["trial"], found["attempt"] = trial.data.index, trial.data.attempt
    found["status"] = result.status
    found["calls_per_sample"] = result.samples.calls_per_sample if result.samples else 1
    found["sample"] = np.arange(len(caller))
    found["caller_ns"] = caller
    runtime = trial.data.series_ns("runtime")
    found["runtime_ns"] = NO_RUNTIME_NS if runtime is None else runtime
    return found


def to_npy(table: NDArray[Any]) -> bytes:
    """A NumPy file of a structured array; ``numpy.load`` reads it without pickles."""
    out = io.BytesIO()
    np.save(out, table, allow_pickle=False)
    return out.getvalue()


def from_npy(data: bytes) -> NDArray[Any]:
    """Raises ``ValueError``: not such a file."""
    table: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    if table.dtype != DTYPE:
        raise ValueError(f"samples of another release: {table.dtype}")
    return table


def to_csv(table: NDArray[Any]) -> str:
    """One line a sample, with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(DTYPE.names or ())
    for start in range(0, len(table), CHUNK):
        writer.writerows(_plain(row) for row in table[start : start + CHUNK].tolist())
    return out.getvalue()


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    *before, runtime_ns = row
    text = (v.decode("ascii") if isinstance(v, bytes) else v for v in before)
    return (*text, None if runtime_ns == NO_RUNTIME_NS else runtime_ns)


def to_json(table: NDArray[Any]) -> str:
    """``{"cell": 17, "trials": [{"trial_id": …, "caller_ns": [...], "runtime_ns": [...]}]}``;
    ``runtime_ns`` is null where the runtime reports none."""
    trials = []
    for trial_id in dict.fromkeys(table["trial_id"].tolist()):
        part = table[table["trial_id"] == trial_id]
        first, own = part[0], part["runtime_ns"]
        trials.append(
            {
                "trial_id": trial_id,
                "trial": int(first["trial"]),
                "attempt": int(first["attempt"]),
                "status": first["status"].decode("ascii"),
                "calls_per_sample": int(first["calls_per_sample"]),
                "caller_ns": part["caller_ns"].tolist(),
                "runtime_ns": None if (own == NO_RUNTIME_NS).all() else own.tolist(),
            }
        )
    return json.dumps({"cell": int(table["cell"][0]) if len(table) else None, "trials": trials})


def write_parquet(table: NDArray[Any], path: Path) -> None:
    """Write a Parquet file. Raises ``ImportError``: PyArrow is not installed."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: table[name] for name in DTYPE.names or ()}
    own = columns["runtime_ns"]
    arrays = {
        **columns,
        "status": pyarrow.array(np.char.decode(columns["status"], "ascii")).dictionary_encode(),
        "runtime_ns": pyarrow.array(own, mask=own == NO_RUNTIME_NS),
    }
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)
