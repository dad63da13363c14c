"""OpenVINO's targets, compile properties and model cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.failures import BadOption, Unsupported, UnsupportedPrecision, UnsupportedTarget
from agent.contract.trial import RuntimeRef
from agent.runtimes import registry
from agent.runtimes.openvino import devices
from support.runner_child import SPEC, expected, require, write_onnx

DEFAULTS = {"performance_hint": "latency", "streams": "", "nireq": ""}
CAPABLE = {
    "CPU": ["FP32", "INT8", "BF16"],
    "GPU.0": ["FP32", "FP16", "INT8"],
    "GPU.1": ["FP32", "FP16"],
    "NPU": ["FP16", "INT8"],
}


class Core:
    """What ``openvino.Core`` answers on a machine with these devices."""

    def __init__(self, *devices: str) -> None:
        self.available_devices = list(devices)

    def get_property(self, device: str, key: str) -> Any:
        if key == "SUPPORTED_PROPERTIES":
            return [] if device == "NPU" else ["NUM_STREAMS"]
        if key == "FULL_DEVICE_NAME":
            return f"the {device}"
        return CAPABLE["GPU.0" if device == "GPU" else device]


ALL = Core("CPU", "GPU.0", "GPU.1", "NPU")


def properties(core: Any, target: str, precision: str = "fp32", **options: str) -> Any:
    runtime = RuntimeRef("openvino", target=target, precision=precision, threads=2)
    return devices.properties(core, runtime, {**DEFAULTS, **options})


def test_one_device_and_auto() -> None:
    found = devices.facts(Core("CPU"))
    assert [t.name for t in found] == ["CPU", "AUTO"]
    assert found[0].precisions == ("fp32", "fp16", "bf16", "int8")


def test_several_devices_are_also_composed_with_the_processor_last() -> None:
    names = [t.name for t in devices.facts(Core("CPU", "GPU.0"))]
    assert names == ["CPU", "GPU.0", "AUTO", "HETERO:GPU.0,CPU", "MULTI:GPU.0,CPU"]


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("CPU", ["CPU"]),
        ("GPU", ["GPU"]),
        ("GPU.1", ["GPU.1"]),
        ("AUTO", ["CPU", "GPU.0", "GPU.1", "NPU"]),
        ("AUTO:GPU.0,CPU", ["GPU.0", "CPU"]),
        ("AUTO:-CPU", ["GPU.0", "GPU.1", "NPU"]),
        ("HETERO:NPU,CPU", ["NPU", "CPU"]),
        ("BATCH:GPU.0(4)", ["GPU.0"]),
    ],
)
def test_the_devices_of_a_target(target: str, wanted: list[str]) -> None:
    assert devices.parts(ALL, target) == wanted


@pytest.mark.parametrize("target", ["TPU", "HETERO", "MULTI", "AUTO:TPU", "HETERO:CPU,GPU.7", ""])
def test_a_target_that_is_not_here_is_named_with_those_that_are(target: str) -> None:
    with pytest.raises(UnsupportedTarget, match=r"it has CPU, GPU\.0, .*HETERO:DEVICE"):
        devices.parts(ALL, target)


def test_a_composition_has_what_all_its_devices_have() -> None:
    assert devices.precisions(ALL, "HETERO:GPU.0,CPU") == ("fp32", "fp16", "int8")
    assert devices.precisions(ALL, "NPU") == ("fp16", "int8")


def test_fp16_is_computed_where_the_device_can() -> None:
    assert properties(ALL, "GPU.0", "fp16")["INFERENCE_PRECISION_HINT"] == "f16"
    assert properties(ALL, "CPU", "fp16")["INFERENCE_PRECISION_HINT"] == "f32"


def test_streams_and_requests_are_numbers() -> None:
    found = properties(ALL, "CPU", streams="2", nireq="4")
    assert (found["NUM_STREAMS"], found["PERFORMANCE_HINT_NUM_REQUESTS"]) == (2, 4)
    assert "NUM_STREAMS" not in properties(ALL, "CPU", streams="auto")
    for text in ("0", "-1", "two", "1.5"):
        with pytest.raises(BadOption, match="whole number"):
            properties(ALL, "CPU", streams=text)


def test_an_npu_has_no_streams() -> None:
    with pytest.raises(Unsupported, match="NPU has no streams"):
        properties(ALL, "NPU", "fp16", streams="2")


def test_threads_are_the_processors_only() -> None:
    assert "INFERENCE_NUM_THREADS" not in properties(ALL, "GPU.0")
    assert properties(ALL, "HETERO:GPU.0,CPU")["INFERENCE_NUM_THREADS"] == 2


def test_auto_does_not_start_on_the_processor_meanwhile() -> None:
    assert properties(ALL, "AUTO")["ENABLE_STARTUP_FALLBACK"] is False


# --- with the real runtime, on the processor ---


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("openvino")
    require("openvino")
    monkeypatch.chdir(tmp_path)
    return write_onnx(tmp_path / "m.onnx")


def load(backend: Any, path: Path, **runtime: Any) -> Any:
    return backend.load(path, RuntimeRef("openvino", threads=1, **runtime), (SPEC,))


def error_of(session: Any) -> float:
    x = np.random.RandomState(1).standard_normal(SPEC.shape).astype(np.float32)
    session.bind({"x": x})
    session.infer()
    return float(np.abs(session.read()["y"] - expected(x)).max())


@pytest.mark.parametrize("target", ["AUTO", "AUTO:CPU", "HETERO:CPU", "MULTI:CPU", "BATCH:CPU"])
def test_every_composition_computes_in_fp32_when_asked(model: Path, target: str) -> None:
    session = load(registry.find_backend("openvino"), model, target=target)
    assert error_of(session) < 1e-5
    assert "devices CPU" in session.placement
    assert ("operators: CPU" in session.placement) is target.startswith("HETERO")
    session.close()


def test_bf16_is_another_network_where_the_processor_has_it(model: Path) -> None:
    backend = registry.find_backend("openvino")
    if "bf16" not in require("openvino").targets[0].precisions:
        with pytest.raises(UnsupportedPrecision):
            load(backend, model, precision="bf16")
        return
    session = load(backend, model, precision="bf16")
    assert 1e-5 < error_of(session) < 0.1
    assert "inference_precision_hint bf16" in session.placement
    session.close()


def test_streams_are_set(model: Path) -> None:
    options: dict[str, Any] = {"performance_hint": "throughput", "streams": 2}
    session = registry.find_backend("openvino").load(
        model, RuntimeRef("openvino", threads=2, options=options), (SPEC,)
    )
    assert "num_streams 2" in session.placement
    session.close()


def test_the_second_load_is_from_the_cache_that_the_first_filled(model: Path) -> None:
    backend = registry.find_backend("openvino")
    found = []
    for _ in range(2):
        session = load(backend, model, options={"model_cache": True})
        assert error_of(session) < 1e-5
        found.append(session.placement.rsplit(", ", 1)[1])
        session.close()
    assert found == ["model cache filled", "model cache hit"]
    assert len(list(model.parent.glob("model-cache-*"))) == 1


def test_another_trial_never_finds_a_cache(model: Path) -> None:
    for _ in range(2):
        session = load(registry.find_backend("openvino"), model, options={"model_cache": "on"})
        assert "model cache filled" in session.placement
        session.close()


def test_without_the_option_nothing_is_cached(model: Path) -> None:
    session = load(registry.find_backend("openvino"), model)
    assert "cache" not in session.placement
    assert list(model.parent.glob("model-cache-*")) == []
    session.close()
