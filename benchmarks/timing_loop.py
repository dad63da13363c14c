"""What our timed loop adds to an inference, over the bare runtime call with bound inputs."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from agent.contract.trial import RuntimeRef, Scenario
from agent.runner.clock import characterise
from agent.runner.feeds import seeded
from agent.runner.timing_loop import collector_off
from agent.runner.timing_loop import measure as our_loop
from agent.runtimes.onnxruntime.backend import OnnxRuntime
from benchmarks.models import small_mlp
from benchmarks.outcome import Outcome, of_rounds

ROUNDS = 81
CALLS = 2_000
ALLOWED_US = 1.0


def measure() -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlp.onnx"
        small_mlp(path)
        session = OnnxRuntime().load(path, RuntimeRef("onnxruntime", threads=1))
        session.bind(seeded(session.inputs, 0, 1)[0])
        clock = characterise(time.perf_counter_ns, "perf_counter_ns")
        scenario = Scenario(
            min_samples=CALLS, min_duration_s=0.0, max_duration_s=60.0, target_relative_ci=1.0
        )
        added_us, bare_us = [], []
        for turn in range(ROUNDS):
            # which goes first alternates: the machine's own drift must not favour one
            arms = [
                lambda: _bare(session.infer),
                lambda: _ours(session.infer, scenario, clock),
            ]
            seconds = {}
            for index in (0, 1) if turn % 2 else (1, 0):
                seconds[index] = arms[index]()
            bare_us.append(1e6 * seconds[0])
            added_us.append(1e6 * (seconds[1] - seconds[0]))
        session.close()
    inference = sorted(bare_us)[len(bare_us) // 2]
    return [
        of_rounds(
            "timing_loop",
            [us / ALLOWED_US for us in added_us],
            at_most=1.0,
            compared=f"µs added per inference over {ALLOWED_US} µs; the bare call took "
            f"{inference:.1f} µs (onnxruntime, bound inputs)",
        )
    ]


def _bare(infer: object) -> float:
    assert callable(infer)
    with collector_off():
        began = time.perf_counter_ns()
        for _ in range(CALLS):
            infer()
        return (time.perf_counter_ns() - began) / CALLS / 1e9


def _ours(infer: object, scenario: Scenario, clock: object) -> float:
    assert callable(infer)
    pilot = [50_000] * 8
    laps = our_loop(infer, None, pilot, scenario, clock, time.perf_counter_ns)  # type: ignore[arg-type]
    return laps.wall_ns / len(laps.caller_ns) / 1e9
