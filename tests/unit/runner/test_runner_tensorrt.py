"""TensorRT as far as a machine without a GPU goes: against a stand-in that has the members which
the vendor's bindings have in each version."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.child_jobs import ConvertJob, Probed
from agent.contract.failures import (
    BadModel,
    BadOption,
    RuntimeMissing,
    UnsupportedOperator,
    UnsupportedPrecision,
    UnsupportedShape,
    UnsupportedTarget,
)
from agent.contract.trial import ModelRef, RuntimeRef, TensorSpec
from agent.runtimes.converter import Calibration
from agent.runtimes.tensorrt.backend import TensorRt, TensorRtSession
from agent.runtimes.tensorrt.converters.tensorrt_build import TensorRtBuild
from agent.runtimes.tensorrt.cuda import CudaOutOfMemory
from support.fake_tensorrt import BY_VERSION, RECORDED, FakeCuda, FakeTensorRt
from support.runner_child import SPEC, child, expected

FIXTURES = Path(__file__).parents[2] / "fixtures"
GPU = RuntimeRef("tensorrt", target="GPU")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    found = FakeCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", found)
    return found


@pytest.fixture(params=sorted(BY_VERSION))
def trt(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda
) -> FakeTensorRt:
    found = FakeTensorRt(request.param, cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", found)
    return found


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    path.write_bytes(b"ENGINE")
    return path


def load(engine: Path, **options: str) -> TensorRtSession:
    session = TensorRt().load(engine, replace(GPU, options=dict(options)), (SPEC,))
    assert isinstance(session, TensorRtSession)
    return session


def feed_of(seed: int) -> dict[str, Any]:
    random = np.random.RandomState(seed)
    return {"x": random.standard_normal(SPEC.shape).astype(np.float32)}


# --- without TensorRT ---


def test_a_missing_tensorrt_is_named_with_what_to_do() -> None:
    (facts,) = (
        f for f in child("onnxruntime", "probe", None, Probed).runtimes if f.backend == "tensorrt"
    )
    assert "tensorrt cannot be imported" in facts.missing
    assert "runtimes add tensorrt --python" in facts.missing


def test_bindings_that_cannot_load_their_libraries_are_missing_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "tensorrt"
    package.mkdir()
    text = 'raise ImportError("libnvonnxparser.so.11: cannot open shared object file")'
    (package / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(RuntimeMissing, match=r"libnvonnxparser\.so\.11"):
        TensorRt().probe()


def test_no_cuda_device_is_missing(trt: FakeTensorRt, cuda: FakeCuda) -> None:
    cuda.devices = 0
    with pytest.raises(RuntimeMissing, match="cudaErrorNoDevice"):
        TensorRt().probe()


# --- loading and running ---


def test_targets_are_the_gpu_and_the_dla_cores_there_are(trt: FakeTensorRt) -> None:
    trt._cores = 2
    targets = {t.name: t.precisions for t in TensorRt().probe().targets}
    assert targets == {
        "GPU": ("fp32", "fp16", "int8"),
        "DLA0": ("fp16", "int8"),
        "DLA1": ("fp16", "int8"),
    }


@pytest.mark.parametrize("graph", ["off", "on"])
@pytest.mark.parametrize("transfers", ["on", "off"])
def test_it_runs_what_is_bound_and_frees_everything(
    trt: FakeTensorRt, cuda: FakeCuda, engine: Path, graph: str, transfers: str
) -> None:
    session = load(engine, cuda_graph=graph, data_transfers=transfers)
    assert tuple(session.inputs) == (SPEC,)
    assert tuple(session.outputs) == (TensorSpec("y", "float32", (1, 5)),)
    for seed in (1, 2, 1):
        session.bind(feed_of(seed))
        before = cuda.copies
        session.infer()
        assert cuda.copies - before == (2 if transfers == "on" else 0)
        wanted = expected(feed_of(seed)["x"])
        np.testing.assert_allclose(session.read()["y"], wanted, rtol=1e-6)
    assert cuda.launches == (3 if graph == "on" else 0)
    assert f"CUDA graph {graph}" in session.placement
    assert ("not in the latency" in session.placement) is (transfers == "off")
    session.close()
    assert (cuda.memory, cuda.streams) == ({}, 0)
    with pytest.raises(RuntimeError, match="closed"):
        session.infer()


def test_waiting_is_chosen_not_left_to_a_default(
    trt: FakeTensorRt, cuda: FakeCuda, engine: Path
) -> None:
    for wait in ("off", "on"):
        load(engine, spin_wait=wait).close()
    assert cuda.flags == [cuda.cudaDeviceScheduleBlockingSync, cuda.cudaDeviceScheduleSpin]


def test_what_cannot_be_loaded_is_named(trt: FakeTensorRt, cuda: FakeCuda, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"\x00" * 9)
    with pytest.raises(BadModel, match="another version or GPU"):
        load(damaged)
    with pytest.raises(BadModel, match="cannot be read"):
        load(tmp_path / "nothing")
    assert (cuda.memory, cuda.streams) == ({}, 0)


def test_what_it_cannot_do_is_named(trt: FakeTensorRt, cuda: FakeCuda, engine: Path) -> None:
    backend = TensorRt()
    with pytest.raises(UnsupportedTarget, match="GPU"):
        backend.load(engine, replace(GPU, target="CPU"))
    with pytest.raises(UnsupportedPrecision, match="fp16, int8"):
        backend.load(engine, replace(GPU, target="DLA0"))
    with pytest.raises(UnsupportedPrecision):
        backend.load(engine, replace(GPU, precision="bf16"))
    with pytest.raises(BadOption, match="off, on"):
        backend.load(engine, replace(GPU, options={"cuda_graph": "maybe"}))
    with pytest.raises(UnsupportedShape, match="asked for"):
        backend.load(engine, GPU, (replace(SPEC, shape=(2, 3, 6, 6)),))
    cuda.room = 8
    with pytest.raises(CudaOutOfMemory):
        backend.load(engine, GPU, (SPEC,))


# --- building ---


def job(folder: Path, **runtime: Any) -> ConvertJob:
    model = ModelRef("m", "onnx", "0" * 64, 1, (SPEC,), ())
    return ConvertJob(
        model, replace(GPU, **runtime), str(folder / "m.onnx"), str(folder / "job"), ()
    )


def build(tmp_path: Path, **runtime: Any) -> Any:
    converter = TensorRtBuild()
    converter.configure(job(tmp_path, **runtime))
    folder = tmp_path / "job" / "step1"
    folder.mkdir(parents=True, exist_ok=True)
    return converter.convert(tmp_path / "m.onnx", folder, Calibration([], ""))


def test_an_engine_is_built_and_its_timings_are_carried_on(
    trt: FakeTensorRt, tmp_path: Path
) -> None:
    made = build(tmp_path)
    assert made.artifact.read_bytes() == b"ENGINE"
    assert "timing cache new" in made.step
    assert trt.built["timings"] == b""
    assert {p.name for p in made.artifact.parent.iterdir()} == {
        "model.engine",
        "model.json",
        "timing.cache",
    }
    assert "timing cache carried on" in build(tmp_path).step
    assert trt.built["timings"] == b"TIMINGS"
    assert trt.built["flags"] == set()
    assert trt.built["shapes"] == {}


def test_free_dimensions_get_the_registered_shape(trt: FakeTensorRt, tmp_path: Path) -> None:
    trt.free = True
    build(tmp_path)
    assert trt.built["shapes"] == {"x": SPEC.shape}


def test_precision_flags_are_set_where_there_are_any(
    trt: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = trt.BuilderFlag.__members__
    build(tmp_path, precision="int8")
    assert trt.built["flags"] == ({"INT8"} if "INT8" in flags else set())
    build(tmp_path, options={"tf32": "off"})
    assert trt.built["flags"] == {"no TF32"}
    if "FP16" in flags:
        build(tmp_path, precision="fp16")
        assert trt.built["flags"] == {"FP16"}
        return
    monkeypatch.setattr("agent.runtimes.tensorrt.converters.tensorrt_build.missing_modules", list)
    with pytest.raises(RuntimeMissing, match="or register an fp16 model"):
        build(tmp_path, precision="fp16")


def test_a_dla_core_is_used_and_its_share_of_layers_is_told(
    trt: FakeTensorRt, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedTarget, match=r"it has GPU$"):
        build(tmp_path, target="DLA0", precision="int8")
    trt._cores = 1
    made = build(tmp_path, target="DLA0", precision="int8")
    assert "2 of 3 layers can run on the DLA" in made.step
    assert (trt.built["device"].name, trt.built["core"]) == ("DLA", 0)
    assert "GPU_FALLBACK" in trt.built["flags"]


def test_what_the_parser_refuses_is_named(trt: FakeTensorRt, tmp_path: Path) -> None:
    trt.parse_error = ("Frobnicate", "Plugin not found, are the plugin name and version correct?")
    with pytest.raises(UnsupportedOperator, match="Frobnicate"):
        build(tmp_path)
    trt.parse_error = ("", "Failed to parse the ONNX model")
    with pytest.raises(BadModel, match="Failed to parse"):
        build(tmp_path)


# --- the vendor's own bindings ---


def test_of_what_is_used_a_version_lacks_only_what_is_probed_for() -> None:
    assert {v.split(".")[0] for v in BY_VERSION} >= {"10", "11"}
    probed = {"FP16", "INT8", "EXPLICIT_BATCH"}
    for members in BY_VERSION.values():
        assert {m for have in members.values() for m, s in have.items() if s is None} <= probed


def test_the_record_is_what_the_bindings_say() -> None:
    """``BENCHFARM_TENSORRT_BINDINGS`` names a folder with an unpacked wheel of the bindings."""
    folder = os.environ.get("BENCHFARM_TENSORRT_BINDINGS")
    if not folder:
        pytest.skip("BENCHFARM_TENSORRT_BINDINGS names no folder of the vendor's bindings")
    record = [sys.executable, str(RECORDED.with_name("record.py")), folder]
    found = subprocess.run(record, check=True, capture_output=True, text=True).stdout
    assert found.strip() in RECORDED.read_text("utf-8").splitlines()
