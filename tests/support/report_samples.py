"""Synthetic cells and sweeps for the report's tests: seeded, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.contract.device import DeviceFacts, RuntimeFacts, TargetFacts
from agent.contract.trial import (
    Accuracy,
    Clock,
    Failure,
    Fidelity,
    Fingerprint,
    Memory,
    Phases,
    Samples,
    Scenario,
    TrialResult,
    Usage,
)
from orchestrator.report.inputs import CellData, SweepData, TrialData

GOOD = Fidelity(1e-5, 1e-4, 0.999999, 110.0, 4, "logits", True)
BAD = Fidelity(4.2, 3.0, 0.71, 11.0, 4, "logits", False)


def latencies(
    median_ms: float, count: int = 800, seed: int = 0, spread: float = 0.03
) -> NDArray[np.int64]:
    """Log-normal latencies in nanoseconds, shape (count,)."""
    draws = np.random.default_rng(seed).normal(0, spread, count)
    rounded: NDArray[np.int64] = np.rint(median_ms * 1e6 * np.exp(draws)).astype(np.int64)
    return rounded


def result(samples: NDArray[np.int64] | None = None, **changes: Any) -> TrialResult:
    """An ok result that fits ``samples``, shape (series, count); ``changes`` replace its fields."""
    described = None
    if samples is not None:
        described = Samples(
            sha256="0" * 64,
            size_bytes=samples.nbytes,
            count=samples.shape[1],
            series=("caller", "runtime")[: len(samples)],
            encoding="zstd",
            calls_per_sample=1,
            batch_size=1,
            stopped_by="precision",
            wall_s=float(samples[0].sum()) / 1e9 * 1.01,
        )
    wall = described.wall_s if described else 0.0
    made = TrialResult(
        schema=1,
        attempt_id="a",
        status="ok",
        agent_version="0.1.0",
        phases=Phases(0.1, 2.5, 0.4, 0.2, 0.1, 8.0, 0.3, wall, 0.2, 0.0, wall + 1.5, wall + 4.0),
        samples=described,
        memory=Memory(180.5, 60.0, "VmHWM"),
        usage=Usage(100.0, 10, 2),
        fidelity=GOOD,
        clock=Clock("perf_counter_ns", 1, 40.0),
        runtime_version="1.31.1",
        environment="main",
        placement="CPUExecutionProvider",
        artifact_size_bytes=4 << 20,
        fingerprint_before=Fingerprint(0, 0.5, 2400.0, "performance", 45.0, 0, 4000.0),
        fingerprint_after=Fingerprint(int(2e9), 0.7, 2390.0, "performance", 47.0, 1000, 4000.0),
    )
    return replace(made, **changes)


def trial(index: int, samples: NDArray[np.int64] | None, **changes: Any) -> TrialData:
    """One accepted result with its samples, shape (count,) or (series, count)."""
    array = None if samples is None else np.atleast_2d(samples)
    return TrialData(index, 1, result(array, **changes), array)


def cell(
    cell_id: str = "c1", trials: Sequence[TrialData] | None = None, **changes: Any
) -> CellData:
    """A cell of five similar trials around 3 ms unless ``trials`` says otherwise."""
    if trials is None:
        trials = steady_trials(3.0)
    made = CellData(
        cell_id=cell_id,
        device="board-a",
        device_class="generic-linux",
        model="resnet18",
        backend="onnxruntime",
        version="",
        target="CPU",
        precision="fp32",
        threads=0,
        batch_size=1,
        options={},
        calibration="",
        scenario=Scenario(),
        planned_trials=max(1, len(trials)),
        trials=trials,
        state_counts={"done": len(trials)},
        source_size_bytes=45 << 20,
    )
    return replace(made, **changes)


def steady_trials(
    median_ms: float, count: int = 5, seed: int = 0, between: float = 0.01, **changes: Any
) -> list[TrialData]:
    """Trials whose medians differ by a factor of about ``between``."""
    factors = np.exp(np.random.default_rng(seed).normal(0, between, count))
    return [
        trial(i, latencies(median_ms * float(f), seed=seed * 100 + i), **changes)
        for i, f in enumerate(factors)
    ]


def failed_trials(count: int = 2, **changes: Any) -> list[TrialData]:
    """Trials that crashed while loading."""
    failure = Failure("load", "crash", "the runtime died with SIGSEGV", False, "Segmentation fault")
    fields: dict[str, Any] = {"status": "failed", "failure": failure, "fidelity": None, **changes}
    return [trial(i, None, **fields) for i in range(count)]


def facts(hostname: str) -> DeviceFacts:
    """A small board."""
    return DeviceFacts(
        hostname=hostname,
        machine="aarch64",
        system="Linux 6.1",
        python="3.11.7",
        model="Example Board 4",
        cpu_model="Cortex-A76",
        cpu_count=4,
        isa=("asimd", "dotprod"),
        memory_mib=7800.0,
        runtimes=(
            RuntimeFacts("onnxruntime", "1.31.1", "main", (TargetFacts("CPU", ("fp32", "int8")),)),
        ),
        unread={"storage_free_mib": "permission denied"},
    )


def sweep(
    cells: Sequence[CellData], baseline: Mapping[str, str] | None = None, **changes: Any
) -> SweepData:
    """A finished sweep of ``cells``."""
    base = {"backend": "onnxruntime", "precision": "fp32"} if baseline is None else baseline
    made = SweepData(
        name="edge-cpus",
        created_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        state="done",
        spec_yaml="name: edge-cpus\nmodels: [resnet18]\n",
        baseline=base,
        cells=cells,
        devices={device: facts(device) for device in sorted({c.device for c in cells})},
        benchfarm_version="0.1.0",
    )
    return replace(made, **changes)


def drifting(shape: str, median_ms: float = 3.0, count: int = 2000, seed: int = 1) -> Any:
    """Latencies of one steady-state class (``flat``, ``warm_up`` …), shape (count,)."""
    base = latencies(median_ms, count, seed).astype(np.float64)
    position = np.arange(count) / count
    factor = {
        "flat": np.ones(count),
        "warm_up": np.where(position < 0.2, 1.5, 1.0),
        "slow_down": np.where(position > 0.5, 1.4, 1.0),
        "no_steady_state": np.where((position * 8).astype(int) % 2 == 0, 1.0, 1.5),
    }[shape]
    return np.rint(base * factor).astype(np.int64)


def farm() -> SweepData:
    """Two boards, two models, every kind of outcome."""
    cells: list[CellData] = []
    accuracy = Accuracy(0.694, 500, 0.698, True)
    for d, (device, slower) in enumerate((("board-a", 1.0), ("nuc-12", 0.3))):
        for m, (model, base_ms) in enumerate((("resnet18", 21.0), ("mobilenet_v2", 6.5))):
            plan = [
                ("onnxruntime", "fp32", 1.0, GOOD),
                ("onnxruntime", "int8", 0.55, replace(GOOD, cosine=0.9981, psnr_db=38.0)),
                ("openvino", "fp32", 0.98, GOOD),
                ("openvino", "fp16", 0.97, replace(GOOD, cosine=0.99991, psnr_db=61.0)),
                ("openvino", "int8", 0.31, replace(GOOD, cosine=0.9975, psnr_db=36.5)),
                ("tvm", "fp32", 1.6, GOOD),
                ("tvm", "int8", 0.2, BAD),
            ]
            for p, (backend, precision, factor, fidelity) in enumerate(plan):
                number = d * 100 + m * 10 + p
                drop = 0.006 if precision == "int8" else 0.0
                made = steady_trials(
                    base_ms * slower * factor,
                    seed=number + 1,
                    fidelity=fidelity,
                    memory=Memory(120.0 + 30 * (backend == "tvm") + p * 7, 60.0, "VmHWM"),
                    accuracy=replace(accuracy, top1=0.698 - drop if fidelity.passed else 0.31),
                    runtime_version={"openvino": "2026.4.1", "tvm": "0.22"}.get(backend, "1.31.1"),
                    placement=backend,
                )
                if (device, model, p) == ("board-a", "resnet18", 5):
                    made = [
                        trial(i, drifting("slow_down", 33.0, seed=i), accuracy=accuracy)
                        for i in range(5)
                    ]
                cells.append(
                    cell(
                        f"cell-{number:03d}",
                        made,
                        device=device,
                        device_class="rpi5" if device == "board-a" else "intel-nuc",
                        model=model,
                        backend=backend,
                        precision=precision,
                        calibration="random" if (backend, precision) == ("tvm", "int8") else "",
                    )
                )
    rest: dict[str, Any] = {"model": "mobilenet_v2", "precision": "int8"}
    cells.append(
        cell("cell-800", failed_trials(), backend="tensorrt", **rest, state_counts={"failed": 2})
    )
    skip = "edgetpu needs a device with target edgetpu:0"
    cells.append(
        cell("cell-801", [], backend="edgetpu", skip_reason=skip, **rest, planned_trials=5)
    )
    waiting = {"pending": 4, "running": 1}
    cells.append(
        cell("cell-802", [], backend="pytorch", **rest, state_counts=waiting, planned_trials=5)
    )
    return sweep(cells)
