"""ONNX Runtime's execution providers as targets, and which operators of a session are on which.

Only the CPU provider has been run by us; the names of the others' options are from ONNX Runtime's
own provider documentation.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from agent.contract.device import TargetFacts
from agent.contract.failures import Unsupported, listed

CPU = "CPUExecutionProvider"
RECORD = "session.record_ep_graph_assignment_info"
NO_CPU = "session.disable_cpu_ep_fallback"

Settings = Dict[str, str]


class LeftOnCpu(Unsupported):
    """The provider does not take every operator, and the rest would run on the processor."""

    kind = "unsupported_operator"


@dataclass(frozen=True)
class Provider:
    """``family``: what its targets are called: alone, or ``family:WHERE``. ``places``: the WHERE
    that answer here (none: no target). ``settings``: provider options of (where, precision,
    threads)."""

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
    # TF32 is the provider's default: "fp32" would then mean something else than on other boards.
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
    """(ordinal, name) of each CUDA device that the driver answers for; none without a driver.

    A build for CUDA lists its providers as available on a machine without a GPU too.
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
    """What the OpenVINO build says that it sees; the processor where it cannot be asked."""
    from onnxruntime.capi import _pybind_state

    ask = getattr(_pybind_state, "get_available_openvino_device_ids", None)
    return [(str(name), "") for name in ask()] if ask else (("CPU", ""),)


_ALL = ("fp32", "fp16", "int8")
PROVIDERS = (
    Provider(CPU, "CPU", _ALL, _here, _no_settings),
    Provider("CUDAExecutionProvider", "CUDA", _ALL, cuda_devices, _cuda),
    Provider("TensorrtExecutionProvider", "TensorRT", _ALL, cuda_devices, _tensorrt),
    Provider("OpenVINOExecutionProvider", "OpenVINO", _ALL, openvino_devices, _openvino),
    Provider("CoreMLExecutionProvider", "CoreML", ("fp32", "fp16"), _here, _coreml),
    Provider("XnnpackExecutionProvider", "XNNPACK", _ALL, _here, _xnnpack),
)


def targets(available: Sequence[str]) -> Dict[str, Tuple[Provider, str, str]]:
    """Target name → (provider, where, description), of the providers that this build has and whose
    devices answer; the processor first."""
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
    """Whether this version tells which operator went to which provider."""
    return hasattr(session_class, "get_provider_graph_assignment_info")


def assignment(session: Any) -> Optional[Dict[str, List[str]]]:
    """Provider → operator types on it, one for each node; ``None`` where it was not recorded."""
    try:
        subgraphs = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):
        return None
    found: Dict[str, List[str]] = {}
    for subgraph in subgraphs:
        found.setdefault(subgraph.ep_name, []).extend(n.op_type for n in subgraph.get_nodes())
    return found


def placed(provider: str, found: Optional[Dict[str, List[str]]], fallback: str) -> str:
    """Where the session's operators are, in words.

    Raises:
        LeftOnCpu: some are on the processor, or none on the provider, and ``fallback`` is not
            ``allow``; names them.
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
