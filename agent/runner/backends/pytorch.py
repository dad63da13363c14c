"""PyTorch running a ``torch.export`` program (``.pt2``), eagerly or through ``torch.compile``."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Sequence, Tuple

import numpy as np

from agent.contract import RuntimeFacts, RuntimeRef, TensorSpec
from agent.runner import torch_devices, torch_layouts
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
    Unsupported,
    UnsupportedFormat,
    UnsupportedOperator,
)

# Entries of an archive that run code when they are loaded: compiled libraries, pickled objects.
_RUNS_CODE = ("data/aotinductor/", "data/constants/custom_obj_", "data/constants/opaque_obj_")


class PyTorch:
    name = "pytorch"
    accepts = ("pt2",)
    # A program is cast when it is loaded: no converter is needed.
    wants: ClassVar[Wants] = dict.fromkeys(torch_devices.KINDS, (("pt2", "fp32"),))
    options: ClassVar[Options] = {
        "mode": ("eager", "compile"),
        "memory_format": ("contiguous", "channels_last"),
        "compile_cache": ("off", "on"),
    }

    def __init__(self) -> None:
        self._cache = torch_devices.CompileCache()

    def import_runtime(self) -> str:
        # torch.export.load falls back to full unpickling of some payloads: make torch refuse.
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        try:
            import torch
            import torch.export
        except ImportError as error:
            raise RuntimeMissing(
                "torch cannot be imported (%s)" % error,
                "install it with pip install torch (a CPU build where there is no GPU)",
            ) from error
        return str(torch.__version__)

    def probe(self) -> RuntimeFacts:
        version = self.import_runtime()
        import torch

        if not hasattr(torch, "export") or not hasattr(torch.export, "load"):
            raise RuntimeMissing("torch %s has no torch.export" % version, "install torch >= 2.1")
        return RuntimeFacts(
            backend=self.name,
            version=version,
            environment="",
            targets=torch_devices.facts(),
            accepts=self.accepts,
            options=dict(self.options),
        )

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> PyTorchSession:
        self.import_runtime()
        import torch

        options = chosen(self.name, self.options, runtime.options)
        device, precisions = torch_devices.device_of(runtime.target)
        require_precision(self.name, runtime.precision, precisions)
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        program = _program(artifact)
        own = _inputs(program)
        if inputs:
            require_shapes(inputs, _renamed(own, inputs))
        last = options["memory_format"] == "channels_last"
        module = torch_devices.module_of(program, device, runtime.precision, last)
        session = PyTorchSession(program, module, tuple(inputs or own), device, last)
        words = [runtime.target, options["mode"], options["memory_format"], runtime.precision]
        session.placement = "%s, %d threads" % (", ".join(words), torch.get_num_threads())
        if options["mode"] == "compile":
            self._cache.use(keep=options["compile_cache"] == "on")
            session.compile()
        elif runtime.precision != "fp32":
            session.try_once()
        return session


def _program(artifact: Path) -> Any:
    import torch

    _refuse_code(artifact)
    try:
        return torch.export.load(str(artifact))
    except Exception as error:  # it raises whatever its parsers raise
        message = str(error)
        if "torch.ops" in message or "_OpNamespace" in message:
            raise UnsupportedOperator("pytorch", _operator(message)) from error
        raise BadModel(
            "torch.export cannot load %s: %s" % (artifact.name, message[:500])
        ) from error


def _operator(message: str) -> str:
    return message.split("'")[-2] if message.count("'") >= 2 else message[:200]


def _refuse_code(artifact: Path) -> None:
    """Raises ``BadModel``: no archive, or one that would run code of its own when loaded."""
    try:
        with zipfile.ZipFile(str(artifact)) as archive:
            names = archive.namelist()
    except FileNotFoundError as error:
        raise BadModel("%s does not exist" % artifact.name) from error
    except zipfile.BadZipFile as error:
        raise BadModel("%s is no exported program: %s" % (artifact.name, error)) from error
    for name in names:
        if any(part in name for part in _RUNS_CODE):
            raise BadModel("%s holds %s, which runs code when loaded" % (artifact.name, name))


def _inputs(program: Any) -> List[TensorSpec]:
    wanted = program.graph_signature.user_inputs
    nodes = {n.name: n for n in program.graph_module.graph.nodes if n.op == "placeholder"}
    return [_spec(nodes[name], True) for name in wanted if isinstance(name, str)]


def _renamed(own: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> List[TensorSpec]:
    """A program's names are those of its author's variables: where they differ from the ones that
    the model is registered with, the inputs are taken in order."""
    if len(own) != len(inputs) or {s.name for s in own} == {s.name for s in inputs}:
        return list(own)
    return [replace(spec, name=inputs[index].name) for index, spec in enumerate(own)]


def _spec(node: Any, an_input: bool) -> TensorSpec:
    value, name = node.meta["val"], node.name
    dtype = str(value.dtype).replace("torch.", "")
    if not hasattr(np, dtype):
        raise UnsupportedFormat("%s has element type %s" % (name, dtype))
    # A free dimension is a symbol (SymInt), not an int.
    shape = tuple(d if isinstance(d, int) else -1 for d in value.shape)
    return TensorSpec(name, dtype, shape, torch_layouts.layout(node, forward=an_input))


class PyTorchSession:
    """Runs under ``inference_mode`` from the first call to ``close``, entered once."""

    infer: Callable[[], None]

    def __init__(
        self,
        program: Any,
        module: Any,
        inputs: Tuple[TensorSpec, ...],
        device: str,
        channels_last: bool,
    ) -> None:
        import torch

        self.inputs: Sequence[TensorSpec] = inputs
        self._order = [spec.name for spec in _renamed(_inputs(program), inputs)]
        names = program.graph_signature.user_outputs
        nodes = {n.name: n for n in program.graph_module.graph.nodes}
        self.outputs: Sequence[TensorSpec] = tuple(_spec(nodes[n], False) for n in names)
        self._flatten = torch.utils._pytree.tree_leaves
        self._module = module
        self.placement = device
        self._device, self._channels_last = device, channels_last
        self._buffers = HostBuffers(self.inputs)
        self._arguments: List[Any] = []
        self._result: Any = None
        self._guard = torch.inference_mode()
        self._guard.__enter__()
        self._synchronize: Callable[..., None] = lambda: None
        if device != "cpu":
            self._synchronize = partial(torch.cuda.synchronize, device)
        self.infer = self._infer if device == "cpu" else self._infer_on_device

    def compile(self) -> None:
        """Make the first call here: it is what compiles, so its time belongs to the load.

        Raises:
            RuntimeMissing: no C++ compiler; says how to get one.
        """
        import torch

        self._module = torch.compile(self._module)
        try:
            self.try_once()
        except Unsupported:
            raise
        except Exception as error:  # the compiler wraps and re-raises by its own classes
            if "InvalidCxxCompiler" in "%s %s" % (type(error).__name__, error):
                raise RuntimeMissing(
                    "torch.compile found no working C++ compiler",
                    "install g++ or choose the option mode: eager",
                ) from error
            raise

    def try_once(self) -> None:
        """Raises ``UnsupportedFormat``: the program mixes element types once it is cast."""
        try:
            self.bind({spec.name: np.zeros(spec.shape, spec.dtype) for spec in self.inputs})
            self.infer()
        except RuntimeError as error:
            if "dtype" not in str(error) and "same type" not in str(error):
                raise
            raise UnsupportedFormat(
                "pytorch cannot cast this program: %s" % str(error)[:300]
            ) from error

    def bind(self, feed: Feed) -> None:
        fresh = self._buffers.fill(feed)
        # Where tensors are copies of our arrays, new content is not seen without another.
        if fresh or self._device != "cpu" or self._channels_last:
            self._arguments = torch_devices.feeds(
                self._buffers.arrays, self._order, self._device, self._channels_last
            )

    def _infer(self) -> None:
        self._result = self._module(*self._arguments)

    def _infer_on_device(self) -> None:
        self._result = self._module(*self._arguments)
        self._synchronize()

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        leaves = self._flatten(self._result)
        return {spec.name: np.array(leaves[n].cpu().numpy()) for n, spec in enumerate(self.outputs)}

    def close(self) -> None:
        self._module = self._result = None
        self._arguments = []
        self._guard.__exit__(None, None, None)


BACKEND = PyTorch
