"""A model in a TFLite interpreter, from either package; ``tflite`` and ``edgetpu`` use it."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, Callable, Dict, Mapping, NoReturn, Sequence

import numpy as np

from agent.contract.failures import BadModel, RuntimeMissing, UnsupportedOperator
from agent.contract.trial import TensorSpec
from agent.formats.tflite import TfliteFile
from agent.runtimes.backend import Feed, closed_session
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
        RuntimeMissing: neither can be imported, or tflite-runtime is installed beside NumPy 2, with
            which its interpreter crashes.
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
    except PackageNotFoundError:  # a local build has no metadata
        top = importlib.import_module(module.__name__.split(".")[0])
        return str(getattr(top, "__version__", "unknown"))


def raise_named(backend: str, error: Exception) -> NoReturn:
    """Raise the named error that the interpreter's ``error`` means; itself where it is unknown.

    Raises:
        UnsupportedOperator, BadModel.
    """
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


_UNCERTAIN = re.compile("RANDOM|MULTINOMIAL|VARIABLE|VAR_HANDLE|LSTM|RNN|SVDF|Random")
_KEEPS = re.compile("LSTM|RNN|SVDF")
"""Operators whose state is in variable tensors. That of ``VAR_HANDLE`` is no tensor: the
interpreter resets it only by being created anew."""


class TfliteSession:
    """Values go in and out through the interpreter's own tensors; ``tflite.tensors`` says what is
    done to them outside of the timed region."""

    infer: Callable[[], None]
    reset: Callable[[], None]
    """Only there where the network keeps state."""

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
        self._uncertain = sorted({o.name for o in graph.operators if _UNCERTAIN.search(o.name)})
        if any(_KEEPS.search(name) for name in self._uncertain):
            self.reset = interpreter.reset_all_variables
        self.placement = placement + self._delegated() + note

    def uncertain(self) -> Sequence[str]:
        return self._uncertain

    def _allocate(self, shapes: Sequence[Sequence[int]]) -> None:
        """Resize the inputs to ``shapes`` (in the caller's axes) and allocate all tensors."""
        self.infer = closed_session  # a reference to ``invoke`` makes the interpreter refuse this
        try:
            for port, shape in zip(self._ins, shapes):  # noqa: B905 - strict= is newer than 3.8
                own = [shape[a] for a in port.axes] if port.axes else list(shape)
                now = self._interpreter.get_input_details()
                if any(d["index"] == port.tensor and list(d["shape"]) != own for d in now):
                    self._interpreter.resize_tensor_input(port.tensor, own, strict=True)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise_named(self._backend, error)
        self.infer = _bare_invoke(self._interpreter)

    def _delegated(self) -> str:
        """How many groups of operators a delegate took: XNNPACK may silently take none."""
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
            # With a view kept in a variable the interpreter would refuse to run.
            np.copyto(self._interpreter.tensor(port.tensor)(), stored)

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        return {
            port.spec.name: port.real(self._interpreter.get_tensor(port.tensor))
            for port in self._outs
        }

    def close(self) -> None:
        self.infer = closed_session
        self._interpreter = None


def _bare_invoke(interpreter: Any) -> Callable[[], None]:
    """``invoke`` without its Python wrapper, which counts references at each call; the public
    method in versions that keep the inner object elsewhere."""
    inner = getattr(getattr(interpreter, "_interpreter", None), "Invoke", None)
    found: Callable[[], None] = inner if inner is not None else interpreter.invoke
    return found
