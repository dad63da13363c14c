"""Traps that somebody fell into: each named, each with its guard."""

from __future__ import annotations

import ast
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import agent
from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.trial import Fingerprint, Phases, RuntimeRef, TensorSpec
from agent.runner.feeds import seeded
from agent.runtimes import registry
from agent.worker.isolation.child_process import CancelRequest, ChildLimits
from agent.worker.isolation.runner_client import RunnerClient
from orchestrator.report.build import build_report
from orchestrator.report.render.html import html_report
from support.environments import python_of
from support.report_samples import cell, steady_trials, sweep
from support.runner_child import (
    SPEC,
    Bench,
    model_of,
    reference_file,
    require,
    write_onnx,
)

AGENT = Path(agent.__file__).parent


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    require(name)
    return name


def trial(backend: str, folder: Path) -> Any:
    path = write_onnx(folder / "m.onnx")
    reference = reference_file(folder / "reference.npz")
    runtime = RuntimeRef(backend, threads=2)
    return Bench(backend, folder).trial(model_of(path, "onnx"), runtime, path, reference)


def test_a_big_parent_does_not_inflate_its_childs_peak(backend: str, tmp_path: Path) -> None:
    """``ru_maxrss`` starts at the parent's through fork and exec; VmHWM of the child does not."""
    ballast = np.ones(800 << 17)  # 800 MiB, written
    found = trial(backend, tmp_path)
    assert found.failure is None
    assert found.memory.source.startswith("VmHWM")
    assert found.memory.peak_rss_mib < 500 < ballast.nbytes / 2**20


def calls_and_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword):
            yield node.arg or ""


@pytest.mark.parametrize("path", sorted(AGENT.rglob("*.py")), ids=lambda p: p.name)
def test_children_are_spawned_never_forked(path: Path) -> None:
    """A fork after a first inference hangs: the runtimes' threads are not in the child."""
    found = set(calls_and_imports(ast.parse(path.read_text("utf-8"))))
    assert not found & {"fork", "forkpty", "multiprocessing", "preexec_fn"}


def test_a_trial_runs_after_an_inference_in_its_parent(backend: str, tmp_path: Path) -> None:
    session = registry.find_backend(backend).load(
        write_onnx(tmp_path / "first.onnx"), RuntimeRef(backend, threads=2), (SPEC,)
    )
    session.bind({"x": np.zeros(SPEC.shape, np.float32)})
    session.infer()
    assert trial(backend, tmp_path).failure is None
    session.close()


def test_a_free_dimension_is_fixed_before_it_is_run(backend: str, tmp_path: Path) -> None:
    """A free batch costs runtimes up to four times: what is measured has fixed shapes."""
    session: Any = registry.find_backend(backend).load(
        write_onnx(tmp_path / "m.onnx", "N"), RuntimeRef(backend), (SPEC,)
    )
    if backend == "openvino":
        assert all(port.partial_shape.is_static for port in session._compiled.inputs)
    else:
        assert [node.shape for node in session._session.get_inputs()] == [list(SPEC.shape)]
    session.close()


def test_inputs_are_well_scaled() -> None:
    """Denormal numbers cost 21 times."""
    (feed,) = seeded([TensorSpec("x", "float32", (64, 64, 16))], 0, 1)
    values = np.abs(feed["x"])
    assert values[values > 0].min() > np.finfo(np.float32).tiny
    assert 0.9 < feed["x"].std() < 1.1


def test_a_quantised_network_that_is_slower_is_reported_so() -> None:
    """It often is: a finding, not something to hide."""
    report = build_report(
        sweep(
            [
                cell("base", steady_trials(3.0, seed=1)),
                cell("int8", steady_trials(6.0, seed=2), precision="int8"),
            ]
        )
    )
    rows = {row.cell_id: row for row in report.rows}
    found = rows["int8"].speed_up
    assert found is not None
    assert found.verdict == "slower"
    assert found.estimate.value == pytest.approx(0.5, rel=0.05)
    assert rows["int8"].rank is not None


def write_heavy(path: Path, mib: int) -> Path:
    """y = x + sum of a weight of that size."""
    nodes = [
        helper.make_node("ReduceSum", ["w"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    weight = numpy_helper.from_array(np.ones(mib << 18, np.float32), "w")
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_conversion_over_its_memory_is_ended_alone(tmp_path: Path) -> None:
    """One export once took the whole machine's memory; others' trials went with it."""
    require("onnxruntime")
    source = write_heavy(tmp_path / "m.onnx", mib=384)
    folder = tmp_path / "job"
    folder.mkdir()
    model = model_of(source, "onnx", (TensorSpec("x", "float32", (1,)),))
    way = (Edge("onnx_fp16", ("onnx", "fp32"), ("onnx", "fp16")),)
    job = ConvertJob(model, RuntimeRef("onnxruntime"), str(source), str(folder), way)
    bounds = ChildLimits(wall_s=60.0, memory_mib=256)
    with CancelRequest() as cancel:
        outcome = RunnerClient("trap").convert(
            python_of("onnxruntime"), job, folder, bounds, cancel
        )
    refused = outcome.failure or outcome.answer.failure
    assert refused is not None
    assert (refused.stage, refused.kind) == ("convert", "out_of_memory")


def test_peak_memory_is_read_after_a_reset(tmp_path: Path) -> None:
    """What importing the runtime took for a moment is not the model's."""
    require("onnxruntime")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this kernel has no clear_refs")
    assert trial("onnxruntime", tmp_path).memory.source == "VmHWM, reset after import"


def test_a_reading_is_absent_exactly_where_the_kernel_has_none(tmp_path: Path) -> None:
    """Many machines have no clock to read, no sensor, no pressure: nothing stands in for them."""
    require("onnxruntime")
    found = trial("onnxruntime", tmp_path)

    def any_of(*patterns: str) -> bool:
        return any(glob.glob(pattern) for pattern in patterns)

    cpufreq = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/"
    sources = {
        "governor": any_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cpu_mhz": any_of(cpufreq + "cpuinfo_cur_freq", cpufreq + "scaling_cur_freq"),
        "temperature_c": any_of("/sys/class/thermal/thermal_zone*/temp"),
        "pressure_cpu_some_us": any_of("/proc/pressure/cpu"),
    }
    for read in (found.fingerprint_before, found.fingerprint_after):
        assert read is not None
        for name, there in sources.items():
            assert there or getattr(read, name) is None, name
    # Counters of the processor and of energy are read by nobody yet: no figure pretends to be one.
    assert found.telemetry == {}


def test_what_was_not_read_is_said_in_the_report_not_filled_in() -> None:
    """A tool that times itself tells neither its processor use nor its first inference."""
    known = Phases(total_s=9.0, import_s=0.1, load_cold_s=4.0, measure_s=2.0)
    bare = Fingerprint(0)
    trials = steady_trials(
        3.0,
        phases=known,
        usage=None,
        memory=None,
        accuracy=None,
        fingerprint_before=bare,
        fingerprint_after=bare,
    )
    data = sweep([cell("c1", trials)])
    (row,) = build_report(data).rows
    for figure in (row.first_inference_ms, row.load_warm_ms):
        assert (figure.value, figure.reason) == (None, "not measured")
    absent = (row.cpu_percent, row.peak_rss_mib, row.overhead_s, row.top1)
    assert absent == (None, None, None, None)
    assert row.telemetry == {}
    for one in row.trials:
        readings = (one.temperature_before_c, one.temperature_after_c, one.cpu_mhz_after)
        assert readings == (None, None, None)
    # What the device itself could not tell of itself stands beside it, with the reason.
    page = html_report(data)
    assert "not read: storage_free_mib (permission denied)" in page
