"""PyTorch running a ``torch.export`` program (``.pt2``), eagerly or through ``torch.compile``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Sequence, Tuple

import numpy as np

from agent.contract.device import RuntimeFacts
from agent.contract.failures import RuntimeMissing, Unsupported, UnsupportedFormat
from agent.contract.input_values import InputValues
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Feed, Options, Wants
from agent.runtimes.host_buffers import HostBuffers, zero_feed
from agent.runtimes.pytorch import devices, exported_program, value_ranges
from agent.runtimes.validation import chosen, facts_of, require_precision, require_shapes


class PyTorch:
    name = "pytorch"
    accepts = ("pt2",)
    # A program is cast at the load, so no converter is needed.
    wants: ClassVar[Wants] = dict.fromkeys(devices.KINDS, (("pt2", "fp32"),))
    options: ClassVar[Options] = {
        "mode": ("eager", "compile"),
        "memory_format": ("contiguous", "channels_last"),
        "compile_cache": ("off", "on"),
    }

    def __init__(self) -> None:
        self._cache = devices.CompileCache()

    def import_runtime(self) -> str:
        return exported_program.import_torch()

    def probe(self) -> RuntimeFacts:
        version = self.import_runtime()
        import torch

        if not hasattr(torch, "export") or not hasattr(torch.export, "load"):
            raise RuntimeMissing("torch %s has no torch.export" % version, "install torch >= 2.1")
        return facts_of(self, version, devices.facts())

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> PyTorchSession:
        self.import_runtime()
        import torch

        options = chosen(self.name, self.options, runtime.options)
        device, precisions = devices.device_of(runtime.target)
        require_precision(self.name, runtime.precision, precisions)
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        program = exported_program.load(artifact)
        own = exported_program.inputs_of(program)
        if inputs:
            require_shapes(inputs, exported_program.renamed(own, inputs))
        last = options["memory_format"] == "channels_last"
        module = devices.module_of(program, device, runtime.precision, last)
        session = PyTorchSession(program, module, tuple(inputs or own), device, last)
        words = [runtime.target, options["mode"], options["memory_format"], runtime.precision]
        session.placement = "%s, %d threads" % (", ".join(words), torch.get_num_threads())
        if options["mode"] == "compile":
            self._cache.use(keep=options["compile_cache"] == "on")
            session.compile()
        elif runtime.precision != "fp32":
            session.try_once()
        return session


class PyTorchSession:
    """Runs under one ``inference_mode``, from its creation to ``close``."""

    infer: Callable[[], None]
    reset: Callable[[], None]
    """Only there where the network keeps state."""

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
        self._program = program
        own = exported_program.inputs_of(program)
        self._order = [spec.name for spec in exported_program.renamed(own, inputs)]
        self.outputs: Sequence[TensorSpec] = tuple(exported_program.outputs_of(program))
        self._flatten = torch.utils._pytree.tree_leaves
        self._module = module
        self.placement = device
        self._device, self._channels_last = device, channels_last
        self._buffers = HostBuffers(self.inputs)
        self._arguments: List[Any] = []
        self._result: Any = None
        self._guard = torch.inference_mode()
        self._guard.__enter__()
        self._uncertain = exported_program.uncertain(program)
        self._kept = exported_program.written_buffers(program, module)
        if self._kept:
            self.reset = self._reset
        self._synchronize: Callable[..., None] = lambda: None
        if device != "cpu":
            self._synchronize = partial(torch.cuda.synchronize, device)
        self.infer = self._infer if device == "cpu" else self._infer_on_device

    def input_values(self) -> Dict[str, InputValues]:
        return value_ranges.of_program(self._program, self.inputs)

    def uncertain(self) -> Sequence[str]:
        return self._uncertain

    def _reset(self) -> None:
        for buffer, first in self._kept:
            buffer.copy_(first)

    def compile(self) -> None:
        """Compile, by a first call: its time belongs to the load.

        Raises:
            RuntimeMissing: no C++ compiler; says how to get one.
        """
        import torch

        self._module = torch.compile(self._module)
        try:
            self.try_once()
        except Unsupported:
            raise
        except Exception as error:  # the compiler wraps errors in its own classes
            if "InvalidCxxCompiler" in "%s %s" % (type(error).__name__, error):
                raise RuntimeMissing(
                    "torch.compile found no working C++ compiler",
                    "install g++ or choose the option mode: eager",
                ) from error
            raise

    def try_once(self) -> None:
        """Run once. Raises ``UnsupportedFormat``: the program mixes element types when cast."""
        try:
            self.bind(zero_feed(self.inputs))
            self.infer()
        except RuntimeError as error:
            if "dtype" not in str(error) and "same type" not in str(error):
                raise
            raise UnsupportedFormat(
                "pytorch cannot cast this program: %s" % str(error)[:300]
            ) from error

    def bind(self, feed: Feed) -> None:
        fresh = self._buffers.fill(feed)
        # Tensors on a device or in another format are copies, which must be renewed.
        if fresh or self._device != "cpu" or self._channels_last:
            self._arguments = devices.feeds(
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
        self._module = self._result = self._program = None
        self._arguments = []
        self._guard.__exit__(None, None, None)


BACKEND = PyTorch
