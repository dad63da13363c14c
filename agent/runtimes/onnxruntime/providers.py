"""ONNX Runtime's execution providers as targets, and which of them runs which operators.

Only the CPU provider has been run so far; the options of the others are from the documentation of
ONNX Runtime's providers.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from agent.contract.device import TargetFacts
from agent.contract.failures import Unsupported, listed
from agent.contract.trial import PRECISIONS

CPU = "CPUExecutionProvider"
RECORD = "session.record_ep_graph_assignment_info"
NO_CPU = "session.disable_cpu_ep_fallback"

Settings = Dict[str, str]


class LeftOnCpu(Unsupported):
    """The provider does not take every operator: the others would run on the CPU."""

    kind = "unsupported_operator"


@dataclass(frozen=True)
class Provider:
    """An execution provider.

    Attributes:
        family: its targets' name, alone or as ``FAMILY:WHERE``.
        places: gives (where, description) of each device that answers; none: no target.
        settings: (where, precision, threads) → the provider's options.
    """

    name: str
    family: str
    precisions: Tuple[str, ...]
    places: Callable[[], Sequence[Tuple[str, str]]]
    settings: Callable[[str, str, int], Settings]

    def target(self, where: str) -> str:
        return "%s:%s" % (self.family, where) if where else self.family


def _no_settings(_where: str, _precision: str, _threads: int) -> Settings:
    return {}


def _cuda(where: str, _precision: str, _threads: int) -> Settings:
    # TF32 is the provider's default; "fp32" would then differ from that of other boards.
    return {"device_id": where, "use_tf32": "0"}


def _tensorrt(where: str, precision: str, _threads: int) -> Settings:
    return {
        "device_id": where,
        "trt_fp16_enable": "True" if precision == "fp16" else "False",
        "trt_int8_enable": "True" if precision == "int8" else "False",
        "trt_engine_cache_enable": "False",
    }


def _openvino(where: str, precision: str, threads: int) -> Settings:
    found = {"device_type": where, "precision": "FP16" if precision == "fp16" else "FP32"}
    if precision == "int8":
        found["precision"] = "ACCURACY"  # keeps the model's own types
    if threads and where == "CPU":
        found["num_of_threads"] = str(threads)
    return found


def _coreml(_where: str, _precision: str, _threads: int) -> Settings:
    return {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"}


def _xnnpack(_where: str, _precision: str, threads: int) -> Settings:
    return {"intra_op_num_threads": str(threads)} if threads else {}


def _here() -> Sequence[Tuple[str, str]]:
    return (("", ""),)


def cuda_devices() -> Sequence[Tuple[str, str]]:
    """(ordinal, name) of each CUDA device that the driver reports; none without a driver.

    ONNX Runtime cannot be asked: a CUDA build lists its providers on machines without a GPU too.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    found: List[Tuple[str, str]] = []
    for ordinal in range(count.value):
        device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
        driver.cuDeviceGet(ctypes.byref(device), ordinal)
        driver.cuDeviceGetName(name, 256, device)
        found.append((str(ordinal), name.value.decode("utf-8", "replace")))
    return found


def openvino_devices() -> Sequence[Tuple[str, str]]:
    """The devices that the OpenVINO build reports; the CPU where it cannot be asked."""
    from onnxruntime.capi import _pybind_state

    ask = getattr(_pybind_state, "get_available_openvino_device_ids", None)
    return [(str(name), "") for name in ask()] if ask else (("CPU", ""),)


_ALL = ("fp32", "fp16", "int8")
PROVIDERS = (
    Provider(CPU, "CPU", PRECISIONS, _here, _no_settings),
    Provider("CUDAExecutionProvider", "CUDA", _ALL, cuda_devices, _cuda),
    Provider("TensorrtExecutionProvider", "TensorRT", _ALL, cuda_devices, _tensorrt),
    Provider("OpenVINOExecutionProvider", "OpenVINO", _ALL, openvino_devices, _openvino),
    Provider("CoreMLExecutionProvider", "CoreML", ("fp32", "fp16"), _here, _coreml),
    Provider("XnnpackExecutionProvider", "XNNPACK", _ALL, _here, _xnnpack),
)


def targets(available: Sequence[str]) -> Dict[str, Tuple[Provider, str, str]]:
    """Target → (provider, where, description) for the providers that this build has and whose
    devices answer; the CPU first."""
    return {
        provider.target(where): (provider, where, description)
        for provider in PROVIDERS
        if provider.name in available
        for where, description in provider.places()
    }


def facts(available: Sequence[str]) -> Tuple[TargetFacts, ...]:
    return tuple(
        TargetFacts(name, provider.precisions, ", ".join(filter(None, (provider.name, words))))
        for name, (provider, _, words) in targets(available).items()
    )


def can_record(session_class: Any) -> bool:
    """Whether this version can report which provider runs which operator."""
    return hasattr(session_class, "get_provider_graph_assignment_info")


def assignment(session: Any) -> Optional[Dict[str, List[str]]]:
    """Provider → the types of its operators, one per node; ``None`` where it was not recorded."""
    try:
        subgraphs = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):
        return None
    found: Dict[str, List[str]] = {}
    for subgraph in subgraphs:
        found.setdefault(subgraph.ep_name, []).extend(n.op_type for n in subgraph.get_nodes())
    return found


def placed(provider: str, found: Optional[Dict[str, List[str]]], fallback: str) -> str:
    """Where the session's operators run, in words.

    Raises:
        LeftOnCpu: some run elsewhere than on ``provider``, and ``fallback`` is not ``allow``; names
            them.
    """
    if found is None:
        return "%s (which operators it took is unknown to this version)" % provider
    total = sum(len(operators) for operators in found.values())
    mine = len(found.get(provider, ()))
    others = {name: ops for name, ops in found.items() if name != provider}
    if not others:
        return "%s (all %d operators)" % (provider, total)
    where = "; ".join("on %s: %s" % (name, _counted(ops)) for name, ops in sorted(others.items()))
    if fallback != "allow":
        raise LeftOnCpu(
            "%s takes %d of %d operators; %s (option cpu_fallback: allow runs it so)"
            % (provider, mine, total, where)
        )
    return "%s (%d of %d operators; %s)" % (provider, mine, total, where)


def _counted(operators: Sequence[str]) -> str:
    names = sorted(set(operators))
    shown = ["%s ×%d" % (n, operators.count(n)) for n in names[:12]]
    return listed(shown + (["…"] if len(names) > 12 else []))
