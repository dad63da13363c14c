"""Parsers of the files that ``trtexec`` writes. Source of the format: ``exportJSONTrace`` and
``exportJSONOutput`` in NVIDIA's ``samples/common/sampleReporting.cpp``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np

from agent.contract.failures import BadOutput

_SCALAR = ("", "()", "scalar")
_WORDS = re.compile(r'"(?:\\.|[^"\\])*"|(-?(?:nan(?:\(\w*\))?|inf(?:inity)?))')


class TrtexecTimes(NamedTuple):
    """Times in nanoseconds, one for each query after the warm-up.

    ``latency``: host to device, compute and device to host, or compute only without transfers;
    ``compute``: the kernels' part of it; ``wall_ns``: from the start of the first query to the end
    of the last, on the device.
    """

    latency: "np.ndarray[Any, np.dtype[np.int64]]"
    compute: "np.ndarray[Any, np.dtype[np.int64]]"
    wall_ns: int


def read_times(path: Path, warm_up_ms: float) -> TrtexecTimes:
    """Parse the file of ``--exportTimes``.

    It begins with the queries of the warm-up, which ``startComputeMs`` tells; numbers have six
    digits, so a sample is exact to about 1 part in 10⁵.

    Raises:
        BadOutput: not such a file, or no query after the warm-up.
    """
    rows = _rows(path, "times")
    try:
        kept = [r for r in rows if float(r["startComputeMs"]) >= warm_up_ms]
        latency, compute = (
            _nanoseconds([r[key] for r in kept]) for key in ("latencyMs", "computeMs")
        )
        if not kept:
            raise BadOutput("trtexec timed no query after %g ms of warm-up" % warm_up_ms)
        wall_ms = float(kept[-1]["endD2hMs"]) - float(kept[0]["startH2dMs"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadOutput("trtexec's times are not as expected: %r" % error) from error
    if (latency <= 0).any() or (compute <= 0).any():
        raise BadOutput("trtexec gave a latency of 0 ms or less")
    return TrtexecTimes(latency, compute, int(wall_ms * 1e6))


def _nanoseconds(ms: List[Any]) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Raises ``ValueError``: one is no number; leaving it out would flatter the others."""
    values = np.array(ms, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a latency is %s" % values[~np.isfinite(values)][0])
    return np.rint(values * 1e6).astype(np.int64)


def read_outputs(path: Path) -> Dict[str, "np.ndarray[Any, Any]"]:
    """The last query's outputs, from the file of ``--exportOutput``, which has six digits and no
    element types: all are float64.

    Raises:
        BadOutput: not such a file, or values that do not match an output's shape.
    """
    arrays: Dict[str, "np.ndarray[Any, Any]"] = {}
    for row in _rows(path, "outputs"):
        try:
            shape = _shape(str(row["dimensions"]))
            arrays[str(row["name"])] = np.array(row["values"], np.float64).reshape(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise BadOutput("trtexec's output %s: %s" % (row.get("name"), error)) from error
    if not arrays:
        raise BadOutput("trtexec gave no output")
    return arrays


def _shape(text: str) -> List[int]:
    """``1x5``; a scalar has no dimensions, which releases write differently."""
    return [] if text in _SCALAR else [int(d) for d in text.split("x")]


def _numbers_of_json(text: str) -> str:
    """C++ prints numbers that are none as ``nan``, ``-nan(ind)`` and ``inf``, outside of JSON."""

    def spelled(found: "re.Match[str]") -> str:
        word = found.group(1)
        if not word:
            return found.group(0)  # a text, such as an output's name
        return (
            "NaN" if "nan" in word else word.replace("infinity", "inf").replace("inf", "Infinity")
        )

    return _WORDS.sub(spelled, text)


def _rows(path: Path, what: str) -> List[Dict[str, Any]]:
    try:
        with open(str(path), encoding="utf-8") as file:
            rows = json.loads(_numbers_of_json(file.read()))
    except (OSError, ValueError) as error:
        raise BadOutput("trtexec's %s cannot be read: %s" % (what, error)) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadOutput("trtexec's %s are no list of objects" % what)
    return rows
