"""Execution providers as targets, and the refusal of a silent fall-back to the processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.contract.failures import UnsupportedTarget
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes import registry
from agent.runtimes.onnxruntime import providers
from agent.runtimes.onnxruntime.providers import PROVIDERS, LeftOnCpu, placed, targets
from support.runner_child import SPEC, require, write_onnx

CUDA = "CUDAExecutionProvider"


def with_places(
    monkeypatch: pytest.MonkeyPatch, family: str, places: list[tuple[str, str]]
) -> None:
    found = tuple(replace(p, places=lambda: places) if p.family == family else p for p in PROVIDERS)
    monkeypatch.setattr(providers, "PROVIDERS", found)


def test_a_build_for_cuda_without_a_gpu_offers_the_processor_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_places(monkeypatch, "CUDA", [])
    assert list(targets([CUDA, providers.CPU])) == ["CPU"]


def test_each_device_of_a_provider_is_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    with_places(monkeypatch, "CUDA", [("0", "Orin"), ("1", "Other")])
    found = providers.facts([CUDA, providers.CPU])
    assert [t.name for t in found] == ["CPU", "CUDA:0", "CUDA:1"]
    assert found[1].description == f"{CUDA}, Orin"


def test_a_provider_that_the_build_lacks_is_no_target() -> None:
    assert list(targets([providers.CPU, "AzureExecutionProvider"])) == ["CPU"]


def test_every_provider_is_one_that_onnxruntime_knows() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    known = onnxruntime.get_all_providers()
    assert [p.name for p in PROVIDERS if p.name not in known] == []


@pytest.mark.parametrize(
    ("family", "where", "precision", "wanted"),
    [
        ("CUDA", "1", "fp32", {"device_id": "1", "use_tf32": "0"}),
        ("TensorRT", "0", "fp16", {"trt_fp16_enable": "True", "trt_int8_enable": "False"}),
        ("TensorRT", "0", "int8", {"trt_fp16_enable": "False", "trt_int8_enable": "True"}),
        ("OpenVINO", "CPU", "fp32", {"precision": "FP32", "num_of_threads": "2"}),
        ("OpenVINO", "GPU.0", "fp16", {"device_type": "GPU.0", "precision": "FP16"}),
        ("OpenVINO", "GPU.0", "int8", {"precision": "ACCURACY"}),
        ("XNNPACK", "", "fp32", {"intra_op_num_threads": "2"}),
    ],
)
def test_settings(family: str, where: str, precision: str, wanted: dict[str, str]) -> None:
    provider = next(p for p in PROVIDERS if p.family == family)
    found = provider.settings(where, precision, 2)
    assert {key: found.get(key) for key in wanted} == wanted
    assert all(isinstance(value, str) for value in found.values())


def test_operators_left_on_the_processor_are_named() -> None:
    found = {CUDA: ["Conv"] * 3, providers.CPU: ["NonMaxSuppression", "Shape", "Shape"]}
    with pytest.raises(LeftOnCpu, match=r"takes 3 of 6.*NonMaxSuppression ×1, Shape ×2"):
        placed(CUDA, found, "refuse")
    words = placed(CUDA, found, "allow")
    assert "3 of 6 operators; on CPUExecutionProvider: NonMaxSuppression ×1, Shape ×2" in words


def test_all_operators_on_the_provider_is_said() -> None:
    assert placed(CUDA, {CUDA: ["Conv", "Relu"]}, "refuse") == f"{CUDA} (all 2 operators)"


def test_a_provider_that_took_nothing_is_refused() -> None:
    with pytest.raises(LeftOnCpu, match=r"takes 0 of 1"):
        placed(CUDA, {providers.CPU: ["Conv"]}, "refuse")


def test_an_older_version_says_that_it_does_not_know() -> None:
    def refuse() -> Any:
        raise RuntimeError("not recorded")

    session = SimpleNamespace(get_provider_graph_assignment_info=refuse)
    assert providers.assignment(session) is None
    assert "unknown to this version" in placed(CUDA, None, "refuse")


# --- with a real session: the Azure provider is in the plain wheel, and takes no operator ---


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> str:
    onnxruntime = pytest.importorskip("onnxruntime")
    require("onnxruntime")
    name = "AzureExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {name}")
    stand_in = replace(PROVIDERS[0], name=name, family="Azure")
    monkeypatch.setattr(providers, "PROVIDERS", (*PROVIDERS, stand_in))
    return "Azure"


def load(path: Path, **runtime: Any) -> Any:
    backend = registry.find_backend("onnxruntime")
    specs: tuple[TensorSpec, ...] = (SPEC,)
    return backend.load(path, RuntimeRef("onnxruntime", **runtime), specs)


def test_a_session_on_the_processor_is_refused_for_another_target(
    azure: str, tmp_path: Path
) -> None:
    path = write_onnx(tmp_path / "m.onnx")
    with pytest.raises(LeftOnCpu, match=r"takes 0 of 5.*Conv ×1.*MatMul ×1"):
        load(path, target=azure)


def test_a_fall_back_that_is_allowed_is_reported(azure: str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx")
    session = load(path, target=azure, options={"cpu_fallback": "allow"})
    assert "0 of 5 operators; on CPUExecutionProvider: Conv ×1" in session.placement
    session.close()


def test_a_version_without_the_record_forbids_the_fall_back(
    azure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "can_record", lambda _: False)
    with pytest.raises(LeftOnCpu, match="explicitly disabled"):
        load(write_onnx(tmp_path / "m.onnx"), target=azure)


def test_an_absent_provider_is_an_unsupported_target(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this build has the CUDA provider")
    with pytest.raises(UnsupportedTarget, match="no target CUDA:0 here; it has CPU"):
        load(write_onnx(tmp_path / "m.onnx"), target="CUDA:0")
