"""OpenVINO through its runtime API; comparable with ``benchmark_app -api sync``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Sequence, Tuple

import numpy as np

from agent.contract import RuntimeFacts, RuntimeRef, TargetFacts, TensorSpec
from agent.runner.backends.base import (
    Feed,
    HostBuffers,
    Options,
    Wants,
    chosen,
    require_precision,
    require_shapes,
)
from agent.runner.errors import (
    BadModel,
    RuntimeMissing,
    UnsupportedFormat,
    UnsupportedOperator,
    UnsupportedShape,
    UnsupportedTarget,
)

_HINTS = {"latency": "LATENCY", "throughput": "THROUGHPUT", "none": ""}
_CAPABILITIES = (("fp32", "FP32"), ("fp16", "FP16"), ("bf16", "BF16"), ("int8", "INT8"))
# Unset, it is bf16 on some processors: "fp32" would then mean something else on each board.
_INFERENCE_PRECISION = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
_DTYPES = {"f32": "float32", "f64": "float64", "f16": "float16", "boolean": "bool"}
_NO_OPERATOR = re.compile(r"No conversion rule found for operations: (.+)")
_NOT_A_MODEL = (
    "Unable to read the model",
    "Model can't be parsed",
    "Could not open the file",
    "Empty weights data",
    "Incorrect weights",
    "parse_buf",
    "XML",
)


class OpenVino:
    name = "openvino"
    accepts = ("onnx", "openvino_ir")
    wants: ClassVar[Wants] = {
        **dict.fromkeys(("fp32", "fp16", "bf16"), (("onnx", "fp32"), ("openvino_ir", "fp32"))),
        "int8": (("openvino_ir", "int8"),),
    }
    options: ClassVar[Options] = {"performance_hint": tuple(_HINTS)}

    def import_runtime(self) -> str:
        try:
            import openvino
        except ImportError as error:
            raise RuntimeMissing(
                "openvino cannot be imported (%s)" % error, "install it with pip install openvino"
            ) from error
        # 2026.4.1-22982-e213…: the package's version, and then the build's.
        return str(openvino.__version__).split("-")[0]

    def probe(self) -> RuntimeFacts:
        version = self.import_runtime()
        import openvino

        core = openvino.Core()
        targets = tuple(
            TargetFacts(
                device,
                _precisions(core, device),
                str(core.get_property(device, "FULL_DEVICE_NAME")),
            )
            for device in core.available_devices
        )
        return RuntimeFacts(
            backend=self.name,
            version=version,
            environment="",
            targets=targets,
            accepts=self.accepts,
            options=dict(self.options),
        )

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> OpenVinoSession:
        self.import_runtime()
        import openvino

        options = chosen(self.name, self.options, runtime.options)
        core = openvino.Core()
        if runtime.target not in core.available_devices:
            raise UnsupportedTarget(self.name, runtime.target, core.available_devices)
        require_precision(self.name, runtime.precision, _precisions(core, runtime.target))
        try:
            model = core.read_model(str(artifact))
            own = [_spec(port) for port in model.inputs]
            _reshape(model, own, inputs)
            compiled = core.compile_model(model, runtime.target, _properties(runtime, options))
        except RuntimeError as error:
            raise _named(error, artifact) from error
        return OpenVinoSession(compiled)


def _precisions(core: Any, device: str) -> Tuple[str, ...]:
    capable = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, capability in _CAPABILITIES if capability in capable)


def _properties(runtime: RuntimeRef, options: Dict[str, str]) -> Dict[str, Any]:
    properties: Dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _INFERENCE_PRECISION[runtime.precision]
    }
    if _HINTS[options["performance_hint"]]:
        properties["PERFORMANCE_HINT"] = _HINTS[options["performance_hint"]]
    if runtime.threads:
        properties["INFERENCE_NUM_THREADS"] = runtime.threads
    return properties


def _reshape(model: Any, own: List[TensorSpec], inputs: Sequence[TensorSpec]) -> None:
    """Give the model the wanted shapes; OpenVINO may even change fixed ones."""
    if not inputs or {(s.name, s.shape) for s in inputs} == {(s.name, s.shape) for s in own}:
        return
    require_shapes(inputs, [TensorSpec(s.name, s.dtype, (-1,) * len(s.shape)) for s in own])
    try:
        model.reshape({spec.name: list(spec.shape) for spec in inputs})
    except RuntimeError as error:
        raise UnsupportedShape(
            "openvino cannot reshape the model to %s: %s"
            % (", ".join("%s %s" % (s.name, list(s.shape)) for s in inputs), str(error)[-300:])
        ) from error


def _named(error: RuntimeError, artifact: Path) -> Exception:
    message = str(error)
    match = _NO_OPERATOR.search(message)
    if match:
        return UnsupportedOperator("openvino", match.group(1).strip())
    if "is not supported by" in message and "op" in message.lower():
        return UnsupportedFormat("openvino: %s" % message[-400:])
    if any(word in message for word in _NOT_A_MODEL):
        return BadModel("openvino cannot read %s: %s" % (artifact.name, message[-400:].strip()))
    return error


class OpenVinoSession:
    """One infer request whose input tensors share our arrays."""

    infer: Callable[[], None]

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self.inputs: Sequence[TensorSpec] = tuple(_spec(port) for port in compiled.inputs)
        self.outputs: Sequence[TensorSpec] = tuple(_spec(port) for port in compiled.outputs)
        self.placement = _placement(compiled)
        self._buffers = HostBuffers(self.inputs)
        self.infer = self._request.infer

    def bind(self, feed: Feed) -> None:
        if not self._buffers.fill(feed):
            return
        import openvino

        for name, array in self._buffers.arrays.items():
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        return {
            spec.name: np.array(self._request.get_output_tensor(index).data)
            for index, spec in enumerate(self.outputs)
        }

    def own_latency_ns(self) -> int:
        return int(round(self._request.latency * 1e6))  # noqa: RUF046 - Any

    def close(self) -> None:
        self._request = self._compiled = None
        self.infer = _closed


def _closed() -> None:
    raise RuntimeError("the session is closed")


def _placement(compiled: Any) -> str:
    words = ["devices " + "+".join(compiled.get_property("EXECUTION_DEVICES"))]
    for key in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS"):
        try:
            value = compiled.get_property(key)
        except RuntimeError:  # not every device knows every property
            continue
        name = value.get_type_name() if hasattr(value, "get_type_name") else value
        words.append("%s %s" % (key.lower(), name))
    return ", ".join(words)


def _spec(port: Any) -> TensorSpec:
    kind = port.element_type.get_type_name()
    dtype = _DTYPES.get(kind) or kind.replace("i", "int").replace("u", "uint")
    if not re.match(r"^(float|u?int)\d+$|^bool$", dtype):
        raise UnsupportedFormat("%s has element type %s" % (port.any_name, kind))
    shape = tuple(-1 if d.is_dynamic else d.get_length() for d in port.partial_shape)
    return TensorSpec(port.any_name, dtype, shape)


BACKEND = OpenVino
