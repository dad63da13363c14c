"""TensorRT running an engine that ``tensorrt_build`` made, on the GPU or a DLA core; through
``trtexec`` where this interpreter lacks the bindings of TensorRT or CUDA.

Versions of the bindings differ: attributes are probed, versions never compared. Waiting, transfers
and CUDA graphs, whose defaults changed between versions of ``trtexec``, are options with fixed
defaults, which the placement names.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Optional, Sequence

import numpy as np

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import (
    BadModel,
    RuntimeMissing,
    UnsupportedFormat,
    UnsupportedPrecision,
    UnsupportedShape,
    UnsupportedTarget,
)
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Feed, Options, Session, Wants, closed_session
from agent.runtimes.host_buffers import HostBuffers
from agent.runtimes.tensorrt import trtexec
from agent.runtimes.tensorrt.cuda import Buffer, Stream, require_device
from agent.runtimes.tensorrt.cuda import runtime as cuda_runtime
from agent.runtimes.tensorrt.trtexec_session import TrtexecSession
from agent.runtimes.validation import chosen, facts_of, require_precision, require_shapes

OPTIONS: Options = {
    "cuda_graph": ("off", "on"),
    "spin_wait": ("off", "on"),
    "data_transfers": ("on", "off"),
    "tf32": ("on", "off"),
    # TensorRT supports symmetric quantisation only; the quantiser reads this option.
    "activation_type": ("s8",),
}
REMEDY = (
    "install TensorRT from NVIDIA (JetPack, or its tensorrt packages with libraries): trtexec, or"
    " its Python bindings in an interpreter that you name:"
    " benchfarm-agent runtimes add tensorrt --python PYTHON"
)


class TensorRt:
    name = "tensorrt"
    accepts = ("onnx",)
    wants: ClassVar[Wants] = {
        precision: (("tensorrt_engine", precision),) for precision in ("fp32", "fp16", "int8")
    }
    options: ClassVar[Options] = OPTIONS

    def import_runtime(self) -> str:
        tool = tool_instead()
        return tool.version if tool else str(imported().__version__)

    def probe(self) -> RuntimeFacts:
        tool = tool_instead()
        if tool is not None:
            trtexec.require_device()
            return self._probed(tool.version, dla_cores(), ", through %s" % tool.path)
        tensorrt = imported()
        require_device(cuda_runtime())
        builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
        return self._probed(str(tensorrt.__version__), builder.num_DLA_cores)

    def _probed(self, version: str, cores: int, through: str = "") -> RuntimeFacts:
        targets = [TargetFacts("GPU", tuple(self.wants), "CUDA device 0" + through)]
        targets += [
            TargetFacts(
                "DLA%d" % core, ("fp16", "int8"), "layers it lacks run on the GPU" + through
            )
            for core in range(cores)
        ]
        return facts_of(self, version, targets)

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> Session:
        options = chosen(self.name, self.options, runtime.options)
        require_precision(self.name, runtime.precision, tuple(self.wants))
        core = dla_core(runtime.target, runtime.precision)
        tool = tool_instead()
        if tool is not None:
            return TrtexecSession(tool, artifact, core, inputs, options)
        tensorrt = imported()
        try:
            data = artifact.read_bytes()
        except OSError as error:
            raise BadModel("%s cannot be read: %s" % (artifact.name, error)) from error
        stream = Stream(spin=options["spin_wait"] == "on")
        try:
            return TensorRtSession(tensorrt, stream, data, core, inputs, options)
        except BaseException:
            stream.close()
            raise


def imported() -> Any:
    """The module ``tensorrt``. Raises ``RuntimeMissing``."""
    try:
        import tensorrt
    except Exception as error:  # loading a vendor's library may raise anything
        reason = str(error) or type(error).__name__
        raise RuntimeMissing("tensorrt cannot be imported (%s)" % reason, REMEDY) from error
    return tensorrt


def tool_instead() -> Optional[trtexec.TrtexecProgram]:
    """``trtexec``, where it is installed and the bindings that a session needs are not.

    Raises:
        RuntimeMissing: it is needed, but does not answer.
    """
    try:
        # Came with 8.5, like the calls by tensor name that sessions use.
        complete = hasattr(imported(), "TensorIOMode")
        cuda_runtime()
    except RuntimeMissing:
        complete = False
    return None if complete else trtexec.find()


def dla_cores() -> int:
    """The number of DLA devices in sysfs: ``trtexec`` does not report it."""
    return len(glob.glob("/sys/bus/platform/devices/*.nvdla[0-9]"))


def dla_core(target: str, precision: str) -> int:
    """The number of the target's DLA core, -1 for the GPU.

    Raises:
        UnsupportedTarget, UnsupportedPrecision.
    """
    if target == "GPU":
        return -1
    if target[:3] != "DLA" or not target[3:].isdigit():
        raise UnsupportedTarget("tensorrt", target, ("GPU", "DLA0", "DLA1 where there are any"))
    if precision not in ("fp16", "int8"):
        raise UnsupportedPrecision("tensorrt on %s" % target, precision, ("fp16", "int8"))
    return int(target[3:])


class TensorRtSession:
    """Buffers at fixed addresses on host and device; ``infer`` returns when the stream is empty."""

    infer: Callable[[], None]

    def __init__(
        self,
        tensorrt: Any,
        stream: Stream,
        data: bytes,
        core: int,
        inputs: Sequence[TensorSpec],
        options: Dict[str, str],
    ) -> None:
        self._stream = stream
        self._logger = tensorrt.Logger(tensorrt.Logger.WARNING)
        self._runtime = tensorrt.Runtime(self._logger)
        tensorrt.init_libnvinfer_plugins(self._logger, "")
        if core >= 0:
            self._runtime.DLA_core = core
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise BadModel(
                "TensorRT %s cannot load the engine: damaged, or built for another version or GPU"
                % tensorrt.__version__
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BadModel("TensorRT made no execution context: is there memory for it?")
        self._tensors: Dict[str, Buffer] = {}
        self._bind_all(tensorrt, inputs)
        self._buffers = HostBuffers(self.inputs)
        self._in = [self._tensors[spec.name] for spec in self.inputs]
        self._out = [self._tensors[spec.name] for spec in self.outputs]
        self._transfers = options["data_transfers"] == "on"
        self._graph = options["cuda_graph"] == "on"
        self.infer = self._waiting(self._enqueue)
        self._prepared = False
        self.placement = "%s, TensorRT %s, CUDA graph %s, spin wait %s, transfers %s, TF32 %s" % (
            "GPU" if core < 0 else "DLA%d" % core,
            tensorrt.__version__,
            options["cuda_graph"],
            options["spin_wait"],
            "in the latency" if self._transfers else "not in the latency",
            options["tf32"],
        )

    def _bind_all(self, tensorrt: Any, wanted: Sequence[TensorSpec]) -> None:
        """Set the shape and the address of every tensor of the engine."""
        engine, context = self._engine, self._context
        names = [engine.get_tensor_name(n) for n in range(engine.num_io_tensors)]
        is_input = tensorrt.TensorIOMode.INPUT
        input_names = [name for name in names if engine.get_tensor_mode(name) == is_input]
        own = [self._spec(tensorrt, name) for name in input_names]
        if wanted:
            require_shapes(wanted, own)
        self.inputs: Sequence[TensorSpec] = tuple(wanted or own)
        for spec in self.inputs:
            if -1 in spec.shape:
                raise UnsupportedShape("tensorrt: input %s needs a fixed shape" % spec.name)
            if not context.set_input_shape(spec.name, tuple(spec.shape)):
                raise UnsupportedShape(
                    "input %s: the engine does not take %s" % (spec.name, list(spec.shape))
                )
        output_names = [name for name in names if name not in input_names]
        self.outputs: Sequence[TensorSpec] = tuple(self._spec(tensorrt, n) for n in output_names)
        for spec in (*self.inputs, *self.outputs):
            if -1 in spec.shape:
                raise UnsupportedShape(
                    "tensorrt: the shape of output %s depends on the data" % spec.name
                )
            buffer = self._stream.buffer(spec.shape, spec.dtype)
            self._tensors[spec.name] = buffer
            if not context.set_tensor_address(spec.name, buffer.address):
                raise BadModel("TensorRT refused an address for %s" % spec.name)

    def _spec(self, tensorrt: Any, name: str) -> TensorSpec:
        kind = self._engine.get_tensor_dtype(name)
        try:
            dtype = np.dtype(tensorrt.nptype(kind))
        except TypeError as error:
            raise UnsupportedFormat("%s has element type %s" % (name, kind)) from error
        shape = tuple(int(d) for d in self._context.get_tensor_shape(name))
        return TensorSpec(name, str(dtype), shape)

    def _enqueue(self) -> None:
        if self._transfers:
            for buffer in self._in:
                buffer.to_device()
        if not self._context.execute_async_v3(self._stream.handle):
            raise RuntimeError("TensorRT could not enqueue the inference; its log says why")
        if self._transfers:
            for buffer in self._out:
                buffer.to_host()

    def _waiting(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        synchronise = self._stream.synchronise

        def infer() -> None:
            enqueue()
            synchronise()

        return infer

    def bind(self, feed: Feed) -> None:
        self._buffers.fill(feed)
        for name, array in self._buffers.arrays.items():
            np.copyto(self._tensors[name].array, array)
        for buffer in self._in:
            buffer.to_device()
        self._stream.synchronise()
        if self._graph and not self._prepared:
            self.infer()  # once without a graph: TensorRT allocates here, which a capture forbids
            self.infer = self._waiting(self._stream.captured(self._enqueue))
            self._prepared = True

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        if not self._transfers:
            for buffer in self._out:
                buffer.to_host()
            self._stream.synchronise()
        return {spec.name: self._tensors[spec.name].array.copy() for spec in self.outputs}

    def close(self) -> None:
        self.infer = closed_session
        self._in, self._out = [], []
        self._tensors = {}
        self._context = self._engine = self._runtime = None
        self._stream.close()


BACKEND = TensorRt
