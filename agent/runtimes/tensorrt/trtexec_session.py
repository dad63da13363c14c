"""An engine that ``trtexec`` loads, runs and times, in one process for each run."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Tuple

from agent import statistics
from agent.contract.failures import (
    BadModel,
    BadOption,
    ClockError,
    Unsupported,
    UnsupportedFormat,
    UnsupportedScenario,
)
from agent.contract.trial import Clock, Memory, Scenario, TensorSpec
from agent.runtimes.backend import Feed, RawSamples
from agent.runtimes.host_buffers import HostBuffers, zero_feed
from agent.runtimes.tensorrt import trtexec, trtexec_output
from agent.runtimes.validation import require_shapes

ABOUT = "model.json"
"""File beside an engine: its inputs, and the names of those whose shape the engine leaves free."""
TYPES = ("float32", "float16", "int32", "int8")
"""Input types that are passed unchanged: TensorRT 8 runs int64 as int32, and bool varies."""
SLACK = 1.05
_NO_GRAPH = "flag has been ignored"
_OUTPUTS, _TIMES = "outputs.json", "times.json"


def describe(folder: Path, inputs: Sequence[TensorSpec], free: Sequence[str]) -> None:
    """Write the notes that a session needs beside the engine in ``folder``."""
    about = {"inputs": [vars(spec) for spec in inputs], "free": list(free)}
    (folder / ABOUT).write_text(json.dumps(about, indent=1), "utf-8")


def described(artifact: Path) -> Tuple[Sequence[TensorSpec], Sequence[str]]:
    """The engine's inputs, and the names of the free ones. Raises ``BadModel``."""
    try:
        with open(str(artifact.resolve().with_name(ABOUT)), encoding="utf-8") as file:
            about: Dict[str, Any] = json.load(file)
        specs = [TensorSpec(s["name"], s["dtype"], tuple(s["shape"])) for s in about["inputs"]]
        return specs, [str(name) for name in about["free"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModel(
            "%s is no engine of ours: its %s: %r" % (artifact.name, ABOUT, error)
        ) from error


class TrtexecSession:
    """``infer`` runs the program for one query, ``measured`` for many.

    The load is a first run, on zeros: it shows that the engine runs here, and its outputs.
    """

    clock = Clock("CUDA events, read by trtexec", tick_ns=500, call_ns=0.0)
    """Resolution as documented for ``cudaEventElapsedTime``: about half a microsecond."""

    def __init__(
        self,
        tool: trtexec.TrtexecProgram,
        artifact: Path,
        core: int,
        inputs: Sequence[TensorSpec],
        options: Mapping[str, str],
    ) -> None:
        if core >= 0 and options["cuda_graph"] == "on":
            raise BadOption("a DLA core runs without CUDA graphs: leave tensorrt's cuda_graph off")
        own, free = described(artifact)
        if inputs:
            require_shapes(inputs, own)
        self.inputs: Sequence[TensorSpec] = tuple(inputs or own)
        for spec in self.inputs:
            if spec.dtype not in TYPES:
                raise UnsupportedFormat(
                    "input %s is %s; through trtexec it may be %s"
                    % (spec.name, spec.dtype, ", ".join(TYPES))
                )
        self._tool, self._engine = tool, artifact.resolve()
        self._settings: Dict[str, Any] = {
            "free": [spec for spec in self.inputs if spec.name in free],
            "dla_core": core,
            "cuda_graph": options["cuda_graph"] == "on",
            "spin_wait": options["spin_wait"] == "on",
        }
        self._transfers = options["data_transfers"] == "on"
        self._buffers = HostBuffers(self.inputs)
        self._peak_mib = 0.0
        self._scratch = tempfile.TemporaryDirectory(prefix="trtexec-")
        self._folder = Path(self._scratch.name)
        try:
            self.bind(zero_feed(self.inputs))
            self.infer()
            self.outputs: Sequence[TensorSpec] = tuple(
                TensorSpec(name, str(a.dtype), a.shape) for name, a in self.read().items()
            )
        except BaseException:
            self.close()
            raise
        self.placement = (
            "%s, TensorRT %s through trtexec, CUDA graph %s, spin wait %s, transfers %s, TF32 %s"
            % (
                "GPU" if core < 0 else "DLA%d" % core,
                tool.version,
                options["cuda_graph"],
                options["spin_wait"],
                "in the latency" if self._transfers else "not in the latency",
                options["tf32"],
            )
        )

    def bind(self, feed: Feed) -> None:
        self._buffers.fill(feed)
        for number, spec in enumerate(self.inputs):
            array = self._buffers.arrays[spec.name]
            array.astype(array.dtype.newbyteorder("<")).tofile(str(self._folder / _file(number)))

    def infer(self) -> None:
        self._run(outputs=_OUTPUTS)

    def read(self) -> Dict[str, Any]:
        return trtexec_output.read_outputs(self._folder / _OUTPUTS)

    def measured(self, scenario: Scenario) -> RawSamples:
        """Run for ``min_duration_s``, and again for ``max_duration_s`` where that was not enough,
        rounded up to whole seconds, which is what the program takes.

        Latencies are the caller's series, the kernels' part of them the runtime's.

        Raises:
            ClockError: the queries' times add up to more than the time of the run.
        """
        if scenario.kind != "single_stream":
            raise UnsupportedScenario(
                "through trtexec, tensorrt runs single_stream, not %s" % scenario.kind
            )
        warm_up_ms = round(scenario.warm_up_s * 1e3)
        reason = None
        for seconds in (scenario.min_duration_s, scenario.max_duration_s):
            duration_s = max(1, math.ceil(seconds))
            ran = self._run(
                times=_TIMES,
                warm_up_ms=warm_up_ms,
                duration_s=duration_s,
                data_transfers=self._transfers,
            )
            self._peak_mib = ran.peak_mib
            found = trtexec_output.read_times(self._folder / _TIMES, warm_up_ms)
            if float(found.latency.sum()) > SLACK * ran.seconds * 1e9:
                raise ClockError(
                    "trtexec's %d queries took %.3f s by their own times, and the whole run %.3f s"
                    % (len(found.latency), found.latency.sum() / 1e9, ran.seconds)
                )
            reason = statistics.reason_to_stop(found.latency, duration_s, scenario)
            if reason:
                break
        return RawSamples(
            found.latency, found.compute, 1, reason or statistics.MAX_DURATION, found.wall_ns
        )

    def tool_memory(self) -> Memory:
        """Peak memory of the program. It holds runtime and model from its start, so the memory
        after the import is unknown and given as 0."""
        return Memory(self._peak_mib, 0.0, "ru_maxrss of trtexec")

    def close(self) -> None:
        self._scratch.cleanup()

    def _run(self, **how: Any) -> trtexec.TrtexecRun:
        for name in (_OUTPUTS, _TIMES):
            (self._folder / name).write_bytes(b"")  # so that no file of an earlier run is read
        feeds = {spec.name: _file(number) for number, spec in enumerate(self.inputs)}
        command = trtexec.run_command(self._tool, self._engine, feeds, **{**self._settings, **how})
        ran = trtexec.run(self._tool, command, self._folder)
        if self._settings["cuda_graph"] and _NO_GRAPH in ran.text:
            raise Unsupported("this engine cannot run as a CUDA graph; trtexec ran it without")
        return ran


def _file(number: int) -> str:
    return "input%d.bin" % number
