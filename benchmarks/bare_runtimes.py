"""Each runtime through our runner, against itself called bare, and against its vendor's own tool.

The three take turns within a round, each in a fresh process; which goes first alternates, so that
the machine's own drift favours none.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import medians
from benchmarks.artifacts import Artifact, Files
from benchmarks.interpreters import Missing, needed
from benchmarks.medians import THREADS, Median
from benchmarks.outcome import Outcome, of_rounds

MODELS = ("mobilenet_v2", "digits_cnn")
SECONDS = 0.5
INFERENCES = 35
"""At the least: untuned TVM takes a quarter of a second for one."""
BOUNDS = {"at_least": 0.97, "at_most": 1.03}
# Not like with like: bounded above only.
DEARER_TOOLS = {
    ("litert", "digits_cnn"): "litert-benchmark (on random input; its call,"
    " CompiledModel.run_by_name, takes about 2 µs more than an interpreter's: only to be no slower)"
}

Arm = Callable[[], Median]
Tool = Callable[[str, Artifact, float, Median], Median]
"""A vendor's tool, told how long to measure and about what one call takes."""


@dataclass(frozen=True)
class Runtime:
    """``name`` is what results call it. ``load``: the format that it loads; ``variant``: of its
    environment, where it has several."""

    name: str
    backend: str
    load: Callable[[Files], Artifact]
    rounds: int
    tool: Tool | None = None
    variant: str = ""

    @property
    def environment(self) -> str:
        return f"{self.backend}@{self.variant}" if self.variant else self.backend


RUNTIMES = (
    Runtime("onnxruntime", "onnxruntime", lambda files: files.onnx, 8),
    Runtime("openvino", "openvino", lambda files: files.onnx, 8, tool=medians.benchmark_app),
    Runtime(
        *("litert", "tflite", lambda files: files.tflite, 8, medians.litert_benchmark),
        variant="litert",
    ),
    Runtime("tflite", "tflite", lambda files: files.tflite, 8, variant="tflite-runtime"),
    Runtime("tvm", "tvm", lambda files: files.tvm_library, 4, tool=medians.time_evaluator),
    Runtime("pytorch", "pytorch", lambda files: files.pt2, 4),
    Runtime("tensorflow", "tensorflow", lambda files: files.keras, 4),
)


def measure() -> list[Outcome]:
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="benchfarm-bare-") as name:
        for model in MODELS:
            files = Files(model, Path(name) / model)
            for runtime in RUNTIMES:
                try:
                    found += _compare(runtime, files)
                except Missing as missing:
                    print(f"bare_{runtime.name}_{model} left out: {missing}", flush=True)
    return found


def _compare(runtime: Runtime, files: Files) -> list[Outcome]:
    python, artifact = needed(runtime.environment), runtime.load(files)
    tool = runtime.tool
    pilot = medians.bare(python, runtime.backend, artifact, 0.0)
    seconds = max(SECONDS, INFERENCES * pilot.caller_ns / 1e9)
    arms: dict[str, Arm] = {
        "ours": lambda: medians.ours(python, runtime.backend, files, artifact, seconds),
        "bare": lambda: medians.bare(python, runtime.backend, artifact, seconds),
    }
    if tool is not None:
        arms["tool"] = lambda: tool(python, artifact, seconds, pilot)
    turns = [
        {name: arms[name]() for name in (reversed(arms) if turn % 2 else arms)}
        for turn in range(runtime.rounds)
    ]
    return list(_outcomes(runtime, files.name, turns))


def _outcomes(runtime: Runtime, model: str, turns: list[dict[str, Median]]) -> Iterator[Outcome]:
    def outcome(kind: str, peer: str, of: Callable[[Median], float | None], words: str) -> Outcome:
        ratios = [(of(turn["ours"]) or 0.0) / (of(turn[peer]) or 0.0) for turn in turns]
        took = statistics.median(of(turn[peer]) or 0.0 for turn in turns) / 1e6
        words += f" took {took:.4g} ms, medians on {model} FP32, {THREADS} thread"
        return of_rounds(f"{kind}_{runtime.name}_{model}", ratios, compared=words, **BOUNDS)

    def caller(median: Median) -> float:
        return median.caller_ns

    def own(median: Median) -> float | None:
        return median.runtime_ns

    first = turns[0]
    yield outcome("bare", "bare", caller, f"the caller's latency over {first['bare'].call}, which")
    reports = first["bare"].runtime_ns is not None
    if reports:
        words = f"the runtime's own latency over that of {first['bare'].call}, which"
        yield outcome("bare_own", "bare", own, words)
    if "tool" not in first:
        return
    words = first["tool"].call
    dearer = DEARER_TOOLS.get((runtime.name, model))
    if not reports:
        words = f"the caller's latency over {dearer or words}, which"
        found = outcome("tool", "tool", caller, words)
        yield replace(found, at_least=0.0) if dearer else found
        return
    seen = statistics.median(turn["ours"].caller_ns / turn["tool"].caller_ns for turn in turns)
    words = f"the runtime's own latency (the caller's: {seen:.3f}) over {words}, which"
    yield outcome("tool", "tool", own, words)
