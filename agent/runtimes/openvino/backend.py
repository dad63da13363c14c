"""OpenVINO through its runtime API; figures compare with those of ``benchmark_app -api sync``."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Sequence

import numpy as np

from agent.contract.device import RuntimeFacts
from agent.contract.failures import UnsupportedFormat, UnsupportedShape
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Feed, Options, Wants, closed_session
from agent.runtimes.host_buffers import HostBuffers
from agent.runtimes.openvino import devices
from agent.runtimes.openvino.converters import nncf_quantize
from agent.runtimes.openvino.load_errors import named_error
from agent.runtimes.refusals import sentence
from agent.runtimes.validation import chosen, facts_of, require_precision, require_shapes

_DTYPES = {"f32": "float32", "f64": "float64", "f16": "float16", "boolean": "bool"}


class OpenVino:
    name = "openvino"
    accepts = ("onnx", "openvino_ir")
    wants: ClassVar[Wants] = {
        **dict.fromkeys(("fp32", "bf16"), (("onnx", "fp32"), ("openvino_ir", "fp32"))),
        "fp16": (("openvino_ir", "fp16"),),
        "int8": (("openvino_ir", "int8"),),
    }
    options: ClassVar[Options] = {
        "performance_hint": tuple(devices.HINTS),
        "streams": (),
        "nireq": (),
        "model_cache": ("off", "on"),
        **nncf_quantize.OPTIONS,
    }

    def __init__(self) -> None:
        self._cache = ""

    def import_runtime(self) -> str:
        return devices.version()

    def probe(self) -> RuntimeFacts:
        version = self.import_runtime()
        import openvino

        targets = devices.facts(openvino.Core())
        return facts_of(self, version, targets)

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> OpenVinoSession:
        self.import_runtime()
        import openvino

        options = chosen(self.name, self.options, runtime.options)
        core = openvino.Core()
        known = devices.precisions(core, runtime.target)
        require_precision(self.name, runtime.precision, known)
        properties = devices.properties(core, runtime, options)
        if options["model_cache"] == "on":
            properties["CACHE_DIR"] = self._cache_folder()
        try:
            model = core.read_model(str(artifact))
            own = [_spec(port) for port in model.inputs]
            _reshape(model, own, inputs)
            compiled = core.compile_model(model, runtime.target, properties)
            placement = devices.placement(compiled)
            placement += devices.divided(core, model, runtime.target)
        except RuntimeError as error:
            raise named_error(error, artifact) from error
        if runtime.precision == "fp16":
            placement += ", weights fp16"
        if options["model_cache"] == "on":
            cached = compiled.get_property("LOADED_FROM_CACHE")
            placement += ", model cache %s" % ("hit" if cached else "filled")
        requests = devices.whole_number("nireq", options["nireq"])
        return OpenVinoSession(compiled, placement, requests)

    def _cache_folder(self) -> str:
        """A new folder in the job's working folder: the first load fills it, the warm load, by this
        same object, reads it."""
        if not self._cache:
            self._cache = tempfile.mkdtemp(prefix="model-cache-", dir=os.getcwd())
        return self._cache


def _reshape(model: Any, own: List[TensorSpec], inputs: Sequence[TensorSpec]) -> None:
    """Give the model the wanted shapes; OpenVINO can change fixed ones too.

    Raises:
        UnsupportedShape: other inputs, or shapes that the network cannot take.
    """
    if not inputs or {(s.name, s.shape) for s in inputs} == {(s.name, s.shape) for s in own}:
        return
    require_shapes(inputs, [TensorSpec(s.name, s.dtype, (-1,) * len(s.shape)) for s in own])
    try:
        model.reshape({spec.name: list(spec.shape) for spec in inputs})
    except RuntimeError as error:
        raise UnsupportedShape(
            "openvino cannot reshape the model to %s: %s"
            % (", ".join("%s %s" % (s.name, list(s.shape)) for s in inputs), sentence(error, 300))
        ) from error


class OpenVinoSession:
    """One infer request; its input tensors share the memory of the host arrays."""

    infer: Callable[[], None]
    reset: Callable[[], None]
    """Only there where the network keeps state."""

    def __init__(self, compiled: Any, placement: str, requests: int = 0) -> None:
        self._compiled = compiled
        self._requests = requests
        self._request = compiled.create_infer_request()
        self.inputs: Sequence[TensorSpec] = tuple(_spec(port) for port in compiled.inputs)
        self.outputs: Sequence[TensorSpec] = tuple(_spec(port) for port in compiled.outputs)
        self.placement = placement
        self._buffers = HostBuffers(self.inputs)
        self.infer = self._request.infer
        if self._request.query_state():
            self.reset = self._request.reset_state

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

    def request_queue(self) -> OpenVinoQueue:
        return OpenVinoQueue(self._compiled, self._requests, self._buffers.arrays)

    def close(self) -> None:
        self._request = self._compiled = None
        self.infer = self.reset = closed_session


class OpenVinoQueue:
    """``AsyncInferQueue``; ``requests`` 0 lets OpenVINO choose the number for the model."""

    def __init__(self, compiled: Any, requests: int, arrays: Dict[str, Any]) -> None:
        import openvino

        self._queue = openvino.AsyncInferQueue(compiled, requests)
        self.depth = len(self._queue)
        self.caller_ns: List[int] = []
        self.runtime_ns: List[int] = []
        for request in self._queue:
            for name, array in arrays.items():
                request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        self._queue.set_callback(self._completed)

    def _completed(self, request: Any, started_ns: int) -> None:
        self.caller_ns.append(time.perf_counter_ns() - started_ns)
        self.runtime_ns.append(int(request.latency * 1e6))

    def submit(self) -> None:
        self._queue.get_idle_request_id()  # waits; that time is not part of the latency
        self._queue.start_async(None, time.perf_counter_ns())

    def drain(self) -> None:
        self._queue.wait_all()


def _spec(port: Any) -> TensorSpec:
    kind = port.element_type.get_type_name()
    dtype = _DTYPES.get(kind) or kind.replace("i", "int").replace("u", "uint")
    if not re.match(r"^(float|u?int)\d+$|^bool$", dtype):
        raise UnsupportedFormat("%s has element type %s" % (port.any_name, kind))
    shape = tuple(-1 if d.is_dynamic else d.get_length() for d in port.partial_shape)
    return TensorSpec(port.any_name, dtype, shape)


BACKEND = OpenVino
