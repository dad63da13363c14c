"""``trtexec``, for boards whose TensorRT has no Python bindings (JetPack 4: TensorRT 8).

Command lines whose every choice that matters is explicit, and the reading of the files it writes.
Flags as ``trtexec --help`` of TensorRT 8.4 lists them; formats from the vendor's own
``samples/common/sampleReporting.cpp`` (``exportJSONTrace``, ``exportJSONOutput``).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from agent.contract import TensorSpec
from agent.runner.errors import BadOutput, UnsupportedPrecision, UnsupportedShape

USUAL_PLACES = ("/usr/src/tensorrt/bin/trtexec",)
_FLAGS = {"fp32": (), "fp16": ("--fp16",), "int8": ("--int8",)}
_RESERVED = frozenset(":,'\"")
"""Characters that have a meaning inside a list of names and shapes."""


def find() -> str:
    """The program's path, empty where there is none."""
    found = shutil.which("trtexec") or ""
    for path in () if found else USUAL_PLACES:
        if os.access(path, os.X_OK):
            return path
    return found


def build_command(
    program: str,
    source: Path,
    engine: Path,
    timing_cache: Path,
    inputs: Sequence[TensorSpec],
    precision: str,
    *,
    dla_core: int = -1,
    tf32: bool = True,
    free: Sequence[str] = (),
) -> List[str]:
    """Build ``engine`` and run nothing. ``free``: the inputs whose shape the file leaves free.

    Raises:
        UnsupportedPrecision, UnsupportedShape.
    """
    if precision not in _FLAGS:
        raise UnsupportedPrecision("trtexec", precision, tuple(_FLAGS))
    command = [
        program,
        "--onnx=%s" % source,
        "--saveEngine=%s" % engine,
        "--timingCacheFile=%s" % timing_cache,
        "--buildOnly",
        *_FLAGS[precision],
        *(() if tf32 else ("--noTF32",)),
        *_device(dla_core),
    ]
    named = [spec for spec in inputs if spec.name in free]
    if named:
        shapes = ",".join("%s:%s" % (_name(s), "x".join(map(str, s.shape))) for s in named)
        command += ["--%sShapes=%s" % (which, shapes) for which in ("min", "opt", "max")]
    return command


def run_command(
    program: str,
    engine: Path,
    times: Path,
    outputs: Path,
    feeds: Mapping[str, Path],
    *,
    warm_up_ms: int,
    duration_s: int,
    min_iterations: int,
    dla_core: int = -1,
    cuda_graph: bool = False,
    spin_wait: bool = False,
    data_transfers: bool = True,
) -> List[str]:
    """Measure ``engine`` on raw little-endian input files; one stream, one query at a time."""
    command = [
        program,
        "--loadEngine=%s" % engine,
        "--warmUp=%d" % warm_up_ms,
        "--duration=%d" % duration_s,
        "--iterations=%d" % min_iterations,
        "--streams=1",
        "--exposeDMA",  # one query after the other: the latency of each is its own
        "--exportTimes=%s" % times,
        "--exportOutput=%s" % outputs,
        *_device(dla_core),
    ]
    if feeds:
        command.append(
            "--loadInputs=" + ",".join("%s:%s" % (_word(n), p) for n, p in feeds.items())
        )
    switches = (
        ("--useCudaGraph", cuda_graph),
        ("--useSpinWait", spin_wait),
        ("--noDataTransfers", not data_transfers),
    )
    return command + [flag for flag, wanted in switches if wanted]


def _device(dla_core: int) -> Sequence[str]:
    return () if dla_core < 0 else ("--useDLACore=%d" % dla_core, "--allowGPUFallback")


def _name(spec: TensorSpec) -> str:
    if -1 in spec.shape:
        raise UnsupportedShape("trtexec: input %s has a free dimension" % spec.name)
    return _word(spec.name)


def _word(name: str) -> str:
    """A name inside a list of names: quoted where it holds a colon, as ``trtexec`` wants it."""
    if not _RESERVED & set(name):
        return name
    if set(name) & _RESERVED != {":"}:
        raise UnsupportedShape("trtexec cannot be told of an input named %r" % name)
    return "'%s'" % name


def read_times(path: Path, warm_up_ms: float) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """The latency of each query after the warm-up, nanoseconds: host to device, compute, device to
    host (``latencyMs``; without transfers, compute alone).

    The file begins with the warm-up's queries, told by their ``startComputeMs``; its numbers have
    six digits, so a sample is good to about 1 part in 10⁵.

    Raises:
        BadOutput: no such file, or no query is left.
    """
    rows = _rows(path, "times")
    try:
        kept = [r["latencyMs"] for r in rows if float(r["startComputeMs"]) >= warm_up_ms]
        samples = np.rint(np.array(kept, np.float64) * 1e6).astype(np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise BadOutput("trtexec's times are not as expected: %r" % error) from error
    if not len(samples):
        raise BadOutput("trtexec timed no query after %g ms of warm-up" % warm_up_ms)
    if (samples <= 0).any():
        raise BadOutput("trtexec gave a latency of 0 ms or less")
    return samples


def read_outputs(path: Path, wanted: Sequence[TensorSpec]) -> Dict[str, "np.ndarray[Any, Any]"]:
    """The last query's outputs.

    Raises:
        BadOutput: no such file, an output missing, or another number of values than its shape has.
    """
    found = {str(row.get("name")): row for row in _rows(path, "outputs")}
    arrays: Dict[str, "np.ndarray[Any, Any]"] = {}
    for spec in wanted:
        if spec.name not in found:
            raise BadOutput("trtexec gave no output %s; it gave %s" % (spec.name, sorted(found)))
        try:
            shape = [int(d) for d in str(found[spec.name]["dimensions"]).split("x")]
            arrays[spec.name] = np.array(found[spec.name]["values"], spec.dtype).reshape(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise BadOutput("trtexec's output %s: %s" % (spec.name, error)) from error
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
