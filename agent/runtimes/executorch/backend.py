"""ExecuTorch running ``.pte`` programs on the CPU, through its Python bindings."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Sequence, Tuple

import numpy as np

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import BadModel, RuntimeMissing, UnsupportedFormat, UnsupportedOperator
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Feed, Options, Wants, closed_session
from agent.runtimes.executorch.converters import executorch_lower, executorch_quantize
from agent.runtimes.host_buffers import HostBuffers
from agent.runtimes.pytorch.exported_program import import_torch, renamed
from agent.runtimes.validation import (
    chosen,
    facts_of,
    require_precision,
    require_shapes,
    require_target,
)

_METHOD = "forward"
# Numbers of c10::ScalarType, which the bindings give.
_DTYPES = {
    **{0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64"},
    **{5: "float16", 6: "float32", 7: "float64", 11: "bool"},
}
_XNNPACK = "XnnpackBackend"


class ExecuTorch:
    """Accepts exported programs, through its converters."""

    name = "executorch"
    accepts = ("pt2",)
    wants: ClassVar[Wants] = {p: (("executorch_pte", p),) for p in ("fp32", "int8")}
    options: ClassVar[Options] = {**executorch_lower.OPTIONS, **executorch_quantize.OPTIONS}

    def import_runtime(self) -> str:
        _bindings()
        version: str = importlib.import_module("executorch.version").__version__
        return version.split("+")[0]

    def probe(self) -> RuntimeFacts:
        version = self.import_runtime()
        delegates = _bindings()._get_registered_backend_names()
        if _XNNPACK not in delegates:
            raise RuntimeMissing(
                "this ExecuTorch was built without XNNPACK",
                "install it with pip install executorch",
            )
        target = TargetFacts("CPU", tuple(self.wants), "XNNPACK, portable kernels")
        return facts_of(self, version, (target,))

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> ExecuTorchSession:
        bindings = _bindings()
        chosen(self.name, self.options, runtime.options)
        require_precision(self.name, runtime.precision, tuple(self.wants))
        require_target(self.name, runtime.target, ("CPU",))
        # XNNPACK takes the pool when a method is loaded, so it must be reset before.
        if runtime.threads and runtime.threads != bindings._threadpool_get_thread_count():
            bindings._unsafe_reset_threadpool(runtime.threads)
        try:
            data = artifact.read_bytes()
        except FileNotFoundError as error:
            raise BadModel("%s does not exist" % artifact.name) from error
        _require_whole(artifact, data)
        try:
            program = bindings._load_program_from_buffer(data)
            method = program.load_method(_METHOD)
        except (RuntimeError, IndexError, KeyError) as error:
            raise _named(artifact, error) from error
        words = "CPU, %d threads" % bindings._threadpool_get_thread_count()
        return ExecuTorchSession(method, (data, program), _notes(artifact), inputs, words)


def _bindings() -> Any:
    """The bindings, without ``portable_lib``, which imports the whole exporter (2.6 s, 130 MiB) for
    the class of a warning; older versions have only that.

    Raises:
        RuntimeMissing: absent, or built for another torch.
    """
    import_torch("pip install torch executorch")
    for name in ("_C", "portable_lib"):
        try:
            return importlib.import_module("executorch.extension.pybindings." + name)
        except ModuleNotFoundError as error:
            missing = error
        except ImportError as error:  # built for another torch
            raise RuntimeMissing(
                "executorch cannot be imported (%s)" % error,
                "install the version of torch that it was built for",
            ) from error
    raise RuntimeMissing(
        "executorch cannot be imported (%s)" % missing, "install it with pip install executorch"
    )


def _require_whole(artifact: Path, data: bytes) -> None:
    """Check the file against its extended header, which the runtime trusts.

    Source: ExecuTorch's documentation ``pte-file-format``: at byte 8 ``eh00``, length of the header
    (4), of the flatbuffer (8), offset of the segments (8), from version 2 on their length (8).

    Raises:
        BadModel: not a program, or a truncated one.
    """
    if data[4:6] != b"ET":
        raise BadModel("%s is no ExecuTorch program: it has no ET at byte 4" % artifact.name)
    if data[8:12] != b"eh00":
        return
    length = int.from_bytes(data[12:16], "little")
    program = int.from_bytes(data[16:24], "little")
    segments = int.from_bytes(data[24:32], "little")
    size = int.from_bytes(data[32:40], "little") if length >= 32 else 0
    needed = max(program, segments + size)
    if len(data) < needed:
        raise BadModel(
            "%s has %d bytes of %d: it is cut short" % (artifact.name, len(data), needed)
        )


def _named(artifact: Path, error: Exception) -> Exception:
    """The named error that a load error of ExecuTorch means."""
    message = str(error)
    if "OperatorMissing" in message or "0x14" in message:
        return UnsupportedOperator("executorch", "of this program", message[-300:])
    return BadModel("executorch cannot load %s: %s" % (artifact.name, message[-400:]))


def _notes(artifact: Path) -> Dict[str, Any]:
    """The converter's notes beside the program; empty where there are none."""
    try:
        text = artifact.resolve().with_name(executorch_lower.NOTES).read_text("utf-8")
    except OSError:
        return {}
    found: Dict[str, Any] = json.loads(text)
    return found


class ExecuTorchSession:
    """A loaded method. A program has no names of tensors: they are those of the converter's notes,
    else numbered; ``inputs`` with other names are matched by order."""

    infer: Callable[[], None]

    def __init__(
        self,
        method: Any,
        keep: Tuple[Any, ...],
        notes: Dict[str, Any],
        inputs: Sequence[TensorSpec],
        words: str,
    ) -> None:
        self._method: Any = method
        self._keep = keep
        about = method.method_meta()
        own = _specs(about.input_tensor_meta, about.num_inputs(), notes.get("inputs"), "input")
        named = renamed(own, inputs)
        if inputs:
            require_shapes(inputs, named)
        self.inputs: Sequence[TensorSpec] = named
        self.outputs: Sequence[TensorSpec] = _specs(
            about.output_tensor_meta, about.num_outputs(), notes.get("outputs"), "output"
        )
        self.placement = "%s, %s" % (words, notes.get("placement", "made elsewhere"))
        self._buffers = HostBuffers(named)
        self._arguments: List[Any] = []
        self._result: Any = None
        self.infer = self._infer

    def bind(self, feed: Feed) -> None:
        import torch

        if self._buffers.fill(feed):
            arrays = self._buffers.arrays
            self._arguments = [torch.from_numpy(arrays[spec.name]) for spec in self.inputs]

    def _infer(self) -> None:
        self._result = self._method(self._arguments)

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        return {s.name: np.array(self._result[n].numpy()) for n, s in enumerate(self.outputs)}

    def close(self) -> None:
        self._method = self._result = None
        self._keep, self._arguments = (), []
        self.infer = closed_session


def _specs(
    about: Callable[[int], Any], count: int, names: Any, default: str
) -> Tuple[TensorSpec, ...]:
    if not names or len(names) != count:
        names = ["%s%d" % (default, n) for n in range(count)]
    found = []
    for n, name in enumerate(names):
        try:
            tensor = about(n)
        except RuntimeError as error:
            raise UnsupportedFormat("executorch: %s is no tensor" % name) from error
        if tensor.dtype() not in _DTYPES:
            raise UnsupportedFormat("%s has element type %s" % (name, tensor.dtype()))
        found.append(TensorSpec(name, _DTYPES[tensor.dtype()], tuple(tensor.sizes())))
    return tuple(found)


BACKEND = ExecuTorch
