"""The offline scenario: requests in flight where the runtime can, back to back elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.failures import ClockError
from agent.contract.trial import Clock, RuntimeRef, Scenario
from agent.runner.scenarios.offline import measure_queue
from agent.runtimes import registry
from support.runner_child import (
    QUICK,
    SPEC,
    Bench,
    model_of,
    reference_file,
    require,
    write_onnx,
)

OFFLINE = replace(QUICK, kind="offline")
CLOCK = Clock("played", 1, 1.0)


class Played:
    """A queue of 4 in flight whose requests take 1 ms each, 250 µs apart, on its own clock."""

    depth = 4

    def __init__(self, latency_ns: int = 1_000_000) -> None:
        self.now, self.latency_ns = 0, latency_ns
        self.caller_ns: list[int] = []
        self.runtime_ns: list[int] = []
        self.drained = 0

    def submit(self) -> None:
        self.now += 250_000
        self.caller_ns.append(self.latency_ns)

    def drain(self) -> None:
        self.now += 1_000_000
        self.drained += 1

    def now_ns(self) -> int:
        return self.now


def test_throughput_is_requests_over_wall_time_with_the_emptying_counted() -> None:
    queue = Played()
    scenario = Scenario(kind="offline", min_duration_s=0.0, min_samples=100)
    raw = measure_queue(queue, scenario, CLOCK, queue.now_ns)
    assert (len(raw.caller_ns), raw.stopped_by, raw.runtime_ns) == (100, "precision", None)
    assert raw.wall_ns == 100 * 250_000 + queue.drained * 1_000_000


def test_the_maximum_time_ends_it() -> None:
    queue = Played()
    scenario = Scenario(kind="offline", min_samples=10**6, max_duration_s=0.01)
    raw = measure_queue(queue, scenario, CLOCK, queue.now_ns)
    assert (len(raw.caller_ns), raw.stopped_by) == (40, "max_duration")


def test_latencies_that_the_wall_time_has_no_room_for_are_refused() -> None:
    queue = Played(latency_ns=9_000_000)
    with pytest.raises(ClockError, match="4 requests in flight"):
        measure_queue(queue, Scenario(kind="offline", min_duration_s=0.0), CLOCK, queue.now_ns)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_trial_of_every_kind_of_session(backend: str, tmp_path: Path) -> None:
    require(backend)
    options: dict[str, Any] = (
        {"performance_hint": "throughput", "nireq": 3} if backend == "openvino" else {}
    )
    path = write_onnx(tmp_path / "m.onnx")
    found = Bench(backend, tmp_path).trial(
        model_of(path, "onnx"),
        RuntimeRef(backend, options=options),
        path,
        reference_file(tmp_path / "reference.npz"),
        scenario=OFFLINE,
    )
    assert found.failure is None
    assert found.samples is not None
    assert found.fidelity is not None
    assert found.fidelity.passed
    rows = np.fromfile(tmp_path / "samples.i64", "<i8").reshape(-1, found.samples.count)
    assert (rows > 0).all()
    depth = 3 if backend == "openvino" else 1
    assert rows[0].sum() / 1e9 <= 1.05 * depth * found.samples.wall_s


def test_every_request_reads_what_is_bound_and_the_depth_is_as_asked(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    require("openvino")
    session: Any = registry.find_backend("openvino").load(
        write_onnx(tmp_path / "m.onnx"), RuntimeRef("openvino", options={"nireq": 3}), (SPEC,)
    )
    session.bind({"x": np.ones(SPEC.shape, np.float32)})
    session.infer()
    wanted = session.read()["y"]
    queue = session.request_queue()
    assert queue.depth == 3
    for _ in range(12):
        queue.submit()
    queue.drain()
    assert len(queue.caller_ns) == len(queue.runtime_ns) == 12
    for request in queue._queue:
        np.testing.assert_array_equal(request.get_output_tensor(0).data, wanted)
    session.close()
