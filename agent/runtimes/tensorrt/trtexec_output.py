"""The files that ``trtexec`` writes, as its ``samples/common/sampleReporting.cpp`` does
(``exportJSONTrace``, ``exportJSONOutput``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np

from agent.contract.failures import BadOutput


class TrtexecTimes(NamedTuple):
    """Nanoseconds, one for each query after the warm-up. ``latency``: host to device, compute,
    device to host (without transfers, compute alone); ``compute``: of that the kernels.
    ``wall_ns``: from the start of the first to the end of the last, on the device."""

    latency: "np.ndarray[Any, np.dtype[np.int64]]"
    compute: "np.ndarray[Any, np.dtype[np.int64]]"
    wall_ns: int


def read_times(path: Path, warm_up_ms: float) -> TrtexecTimes:
    """What ``--exportTimes`` wrote.

    The file begins with the warm-up's queries, told by their ``startComputeMs``; its numbers have
    six digits, so a sample is good to about 1 part in 10⁵.

    Raises:
        BadOutput: no such file, or no query is left.
    """
    rows = _rows(path, "times")
    try:
        kept = [r for r in rows if float(r["startComputeMs"]) >= warm_up_ms]
        latency, compute = (
            np.rint(np.array([r[key] for r in kept], np.float64) * 1e6).astype(np.int64)
            for key in ("latencyMs", "computeMs")
        )
        if not kept:
            raise BadOutput("trtexec timed no query after %g ms of warm-up" % warm_up_ms)
        wall_ms = float(kept[-1]["endD2hMs"]) - float(kept[0]["startH2dMs"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadOutput("trtexec's times are not as expected: %r" % error) from error
    if (latency <= 0).any() or (compute <= 0).any():
        raise BadOutput("trtexec gave a latency of 0 ms or less")
    return TrtexecTimes(latency, compute, int(wall_ms * 1e6))


def read_outputs(path: Path) -> Dict[str, "np.ndarray[Any, Any]"]:
    """The last query's outputs, as ``--exportOutput`` printed them: six digits, no element type
    (so float64 here).

    Raises:
        BadOutput: no such file, or another number of values than an output's shape has.
    """
    arrays: Dict[str, "np.ndarray[Any, Any]"] = {}
    for row in _rows(path, "outputs"):
        try:
            shape = [int(d) for d in str(row["dimensions"]).split("x")]
            arrays[str(row["name"])] = np.array(row["values"], np.float64).reshape(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise BadOutput("trtexec's output %s: %s" % (row.get("name"), error)) from error
    if not arrays:
        raise BadOutput("trtexec gave no output")
    return arrays


def _rows(path: Path, what: str) -> List[Dict[str, Any]]:
    try:
        with open(str(path), encoding="utf-8") as file:
            rows = json.load(file)
    except (OSError, ValueError) as error:
        raise BadOutput("trtexec's %s cannot be read: %s" % (what, error)) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadOutput("trtexec's %s are no list of objects" % what)
    return rows
