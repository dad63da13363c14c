"""OpenVINO's devices and compositions of them as targets, and the properties to compile with."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from agent.contract.device import TargetFacts
from agent.contract.failures import BadOption, Unsupported, UnsupportedTarget
from agent.contract.trial import RuntimeRef
from agent.runtimes.validation import require_module

BACKEND = "openvino"
HINTS = {"latency": "LATENCY", "throughput": "THROUGHPUT", "none": ""}
COMPOSITIONS = ("AUTO", "HETERO", "MULTI", "BATCH")
_CAPABILITIES = (("fp32", "FP32"), ("fp16", "FP16"), ("bf16", "BF16"), ("int8", "INT8"))
# The default is bf16 on some processors; "fp32" would then differ between boards.
_INFERENCE_PRECISION = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}


def version() -> str:
    """OpenVINO's version. Raises ``RuntimeMissing``."""
    openvino = require_module("openvino", "install it with pip install openvino")
    # 2026.4.1-22982-e213…: the version of the package, then that of the build.
    return str(openvino.__version__).split("-")[0]


def facts(core: Any) -> Tuple[TargetFacts, ...]:
    """Each device and ``AUTO``; with several devices also ``HETERO`` and ``MULTI`` of all of them,
    the CPU last."""
    devices = list(core.available_devices)
    found = [
        TargetFacts(device, precisions(core, device), str(_property(core, device)))
        for device in devices
    ]
    order = ",".join(sorted(devices, key=lambda d: (d == "CPU", d)))
    names = ["AUTO"] + (["HETERO:" + order, "MULTI:" + order] if len(devices) > 1 else [])
    words = {"AUTO": "OpenVINO chooses the device", "HETERO": "operators divided among devices"}
    for name in names if devices else []:
        description = words.get(name.split(":")[0], "requests divided among devices")
        found.append(TargetFacts(name, precisions(core, name), description))
    return tuple(found)


def _property(core: Any, device: str) -> Any:
    return core.get_property(device, "FULL_DEVICE_NAME")


def parts(core: Any, target: str) -> List[str]:
    """The devices that ``target`` may run on.

    Raises:
        UnsupportedTarget: an unknown device, or a composition that lacks its list of devices.
    """
    devices = list(core.available_devices)
    family, _, listed = target.partition(":")
    if family not in COMPOSITIONS:
        wanted = [target]
    elif listed:
        # AUTO:-CPU excludes a device; BATCH:GPU(4) has the batch size behind it.
        left_out = [name[1:] for name in listed.split(",") if name.startswith("-")]
        wanted = [name.split("(")[0] for name in listed.split(",") if not name.startswith("-")]
        wanted = wanted or [device for device in devices if device not in left_out]
    else:
        wanted = devices if family == "AUTO" else []
    # With several GPUs, GPU is another name of GPU.0.
    known = set(devices) | {device.split(".")[0] for device in devices}
    if not wanted or any(name not in known for name in wanted):
        compositions = [name + ":DEVICE,…" for name in COMPOSITIONS]
        raise UnsupportedTarget(BACKEND, target, [*devices, "AUTO", *compositions])
    return wanted


def precisions(core: Any, target: str) -> Tuple[str, ...]:
    """The precisions that every device of ``target`` has; fp16 always, as the type of weights."""
    found = [_capable(core, device) for device in parts(core, target)]
    return tuple(
        name
        for name, capability in _CAPABILITIES
        if name == "fp16" or all(capability in capable for capable in found)
    )


def _capable(core: Any, device: str) -> Sequence[str]:
    found: Sequence[str] = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    return found


def computes_fp16(core: Any, target: str) -> bool:
    """Whether every device of ``target`` computes in FP16."""
    return all("FP16" in _capable(core, device) for device in parts(core, target))


def properties(core: Any, runtime: RuntimeRef, options: Mapping[str, str]) -> Dict[str, Any]:
    """The properties to compile with.

    Raises:
        Unsupported: an option for which the target has no property (an NPU has no streams).
        BadOption: not a whole number.
    """
    kind = _INFERENCE_PRECISION[runtime.precision]
    if kind == "f16" and not computes_fp16(core, runtime.target):
        kind = "f32"
    found: Dict[str, Any] = {"INFERENCE_PRECISION_HINT": kind}
    if HINTS[options["performance_hint"]]:
        found["PERFORMANCE_HINT"] = HINTS[options["performance_hint"]]
    requests = whole_number("nireq", options["nireq"])
    if requests:
        found["PERFORMANCE_HINT_NUM_REQUESTS"] = requests
    streams = whole_number("streams", options["streams"])
    if streams:
        if "NUM_STREAMS" not in core.get_property(runtime.target, "SUPPORTED_PROPERTIES"):
            raise Unsupported("openvino target %s has no streams to set" % runtime.target)
        found["NUM_STREAMS"] = streams
    if runtime.threads and any(name.startswith("CPU") for name in parts(core, runtime.target)):
        found["INFERENCE_NUM_THREADS"] = runtime.threads
    if runtime.target.startswith("AUTO"):
        # Else it would run on the CPU until the chosen device has compiled the model.
        found["ENABLE_STARTUP_FALLBACK"] = False
    return found


def whole_number(name: str, text: str) -> int:
    """``text`` as a number from 1; 0 for ``auto`` or an empty text. Raises ``BadOption``."""
    if text in ("", "auto"):
        return 0
    if not text.isdigit() or int(text) < 1:
        raise BadOption(
            "%s option %s is %r; it accepts auto or a whole number from 1 on"
            % (BACKEND, name, text)
        )
    return int(text)


def placement(compiled: Any) -> str:
    """Devices, precision and threads, as the compiled model reports them."""
    words = ["devices " + "+".join(compiled.get_property("EXECUTION_DEVICES"))]
    for key in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS"):
        try:
            value = compiled.get_property(key)
        except RuntimeError:  # not every device knows every property
            continue
        name = value.get_type_name() if hasattr(value, "get_type_name") else value
        words.append("%s %s" % (key.lower(), name))
    return ", ".join(words)


def divided(core: Any, model: Any, target: str) -> str:
    """How ``HETERO`` divides the operators among devices; empty for other targets."""
    if not target.startswith("HETERO"):
        return ""
    devices = list(core.query_model(model, target).values())
    counts = ["%s %d" % (name, devices.count(name)) for name in sorted(set(devices))]
    return ", operators: " + ", ".join(counts)
