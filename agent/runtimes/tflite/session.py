"""A model in a TFLite interpreter, of whichever package: what ``tflite`` and ``edgetpu`` share."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, Mapping, NoReturn, Sequence

import numpy as np

from agent.contract.failures import BadModel, RuntimeMissing, UnsupportedOperator
from agent.contract.trial import TensorSpec
from agent.formats.tflite import NotTflite, TfliteFile, read
from agent.runtimes.backend import Feed
from agent.runtimes.host_buffers import HostBuffers
from agent.runtimes.tflite.tensors import input_ports, output_ports
from agent.runtimes.validation import require_shapes

_CUSTOM = re.compile(r"unresolved custom op: ([^\s.]+)")
_FLEX = re.compile(r"Node number \d+ \((Flex\w*)\)")
_TOO_NEW = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")
_NO_KERNEL = re.compile(r"Node number \d+ \((\w+)\) failed to prepare")


def interpreter_module() -> Any:
    """The module that has ``Interpreter``: LiteRT's, else tflite-runtime's.

    Raises:
        RuntimeMissing: neither can be imported, or tflite-runtime stands beside NumPy 2, where its
        interpreter dies.
    """
    try:
        import ai_edge_litert.interpreter

        return ai_edge_litert.interpreter
    except ImportError as error:
        reason = str(error)
    try:
        import tflite_runtime.interpreter
    except ImportError as error:
        raise RuntimeMissing(
            "neither ai_edge_litert (%s) nor tflite_runtime (%s) can be imported" % (reason, error),
            "install it with pip install ai-edge-litert (or, for Python up to 3.11, pip install"
            " tflite-runtime 'numpy<2')",
        ) from error
    if int(np.__version__.split(".")[0]) >= 2:
        raise RuntimeMissing(
            "tflite-runtime does not work with numpy %s" % np.__version__,
            "install it with pip install tflite-runtime 'numpy<2'",
        )
    return tflite_runtime.interpreter


def package(module: Any) -> str:
    """``ai-edge-litert`` or ``tflite-runtime``."""
    return str(module.__name__).split(".")[0].replace("_", "-")


def version(module: Any) -> str:
    import importlib
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed(package(module))
    except PackageNotFoundError:  # a build of one's own has no metadata
        top = importlib.import_module(module.__name__.split(".")[0])
        return str(getattr(top, "__version__", "unknown"))


def graph_of(artifact: Path) -> TfliteFile:
    """Raises ``BadModel``: no TFLite file, or a damaged one, which some interpreters would run."""
    try:
        return read(artifact)
    except FileNotFoundError as error:
        raise BadModel("%s does not exist" % artifact.name) from error
    except NotTflite as error:
        raise BadModel("%s is not a TFLite model: %s" % (artifact.name, error)) from error


def refuse(backend: str, error: Exception) -> NoReturn:
    """Raise what the interpreter's ``error`` means, by name; itself where it is not known."""
    message = str(error)
    for pattern, detail in (
        (_CUSTOM, "a custom operator"),
        (_FLEX, "it needs TensorFlow's own kernels (select TF ops, the Flex delegate)"),
        (_TOO_NEW, "its version in this file is newer than the interpreter"),
        (_NO_KERNEL, message[:300]),
    ):
        match = pattern.search(message)
        if match:
            raise UnsupportedOperator(backend, match.group(1), detail) from error
    if "model identifier" in message or "Flatbuffer" in message or "mmap" in message.lower():
        raise BadModel("%s cannot read the model: %s" % (backend, message[:300])) from error
    raise error


class TfliteSession:
    """Values go in and out through the interpreter's own tensors; see ``tflite_io`` for what is
    done to them before and after timing."""

    infer: Callable[[], None]

    def __init__(
        self,
        backend: str,
        interpreter: Any,
        graph: TfliteFile,
        inputs: Sequence[TensorSpec],
        placement: str,
        layouts: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self._backend = backend
        self._interpreter = interpreter
        self._ins = input_ports(graph, interpreter.get_input_details(), inputs, layouts)
        self.inputs: Sequence[TensorSpec] = tuple(port.spec for port in self._ins)
        if inputs:
            require_shapes(inputs, self.inputs)
            self._allocate([port.spec.shape for port in self._ins])
        elif all(-1 not in spec.shape for spec in self.inputs):
            self._allocate([])
        self._outs = output_ports(graph, interpreter.get_output_details(), self._ins, layouts)
        self.outputs: Sequence[TensorSpec] = tuple(port.spec for port in self._outs)
        self._buffers = HostBuffers(self.inputs)
        steps = [step for port in (*self._ins, *self._outs) for step in [port.step()] if step]
        note = "; untimed: " + "; ".join(steps) if steps else ""
        self.placement = placement + self._delegated() + note

    def _allocate(self, shapes: Sequence[Sequence[int]]) -> None:
        """Give free dimensions their sizes (of the caller's axes) and make all tensors."""
        self.infer = _closed  # what it holds would make the interpreter refuse to resize
        try:
            for port, shape in zip(self._ins, shapes):  # noqa: B905 - strict= is newer than 3.8
                own = [shape[a] for a in port.axes] if port.axes else list(shape)
                now = self._interpreter.get_input_details()
                if any(d["index"] == port.tensor and list(d["shape"]) != own for d in now):
                    self._interpreter.resize_tensor_input(port.tensor, own, strict=True)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            refuse(self._backend, error)
        self.infer = _bare_invoke(self._interpreter)

    def _delegated(self) -> str:
        """Whether any operator really went to a delegate: XNNPACK may take none, silently."""
        try:
            names = [op["op_name"] for op in self._interpreter._get_ops_details()]
        except (AttributeError, RuntimeError, ValueError):
            return ""
        groups = sum(name == "DELEGATE" for name in names)
        return ", %d delegated groups" % groups if groups else ", nothing delegated"

    def bind(self, feed: Feed) -> None:
        if self._buffers.fill(feed) and any(-1 in spec.shape for spec in self.inputs):
            self._allocate([feed[port.spec.name].shape for port in self._ins])
        for port in self._ins:
            stored = port.stored(self._buffers.arrays[port.spec.name])
            # A view kept would make the interpreter refuse to run.
            np.copyto(self._interpreter.tensor(port.tensor)(), stored)

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        return {
            port.spec.name: port.real(self._interpreter.get_tensor(port.tensor))
            for port in self._outs
        }

    def close(self) -> None:
        self.infer = _closed
        self._interpreter = None


def _closed() -> None:
    raise RuntimeError("the session is closed")


def _bare_invoke(interpreter: Any) -> Callable[[], None]:
    """``invoke`` without its Python wrapper, which counts references at each call; the public call
    where a version keeps the inner object elsewhere."""
    inner = getattr(getattr(interpreter, "_interpreter", None), "Invoke", None)
    found: Callable[[], None] = inner if inner is not None else interpreter.invoke
    return found
