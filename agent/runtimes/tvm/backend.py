"""TVM (Relax) running a library that ``tvm_compile`` made, on the CPU."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Sequence

import numpy as np

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import BadModel
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Feed, Options, Wants, closed_session
from agent.runtimes.host_buffers import HostBuffers, zero_feed
from agent.runtimes.tvm.converters.tvm_compile import OPTIONS, checked, host_target
from agent.runtimes.tvm.linking import require_own_machine
from agent.runtimes.validation import (
    chosen,
    facts_of,
    require_module,
    require_precision,
    require_shapes,
    require_target,
)

_MAIN = "main"


class Tvm:
    """Accepts ONNX, through the converter; a library from elsewhere is never loaded, because
    loading it runs its code."""

    name = "tvm"
    accepts = ("onnx",)
    # No int8: TVM takes a quantised file, dequantises its weights and computes on floats
    # (docs/decisions/0021).
    wants: ClassVar[Wants] = {"fp32": (("tvm_library", "fp32"),)}
    options: ClassVar[Options] = OPTIONS

    def import_runtime(self) -> str:
        remedy = "install it with pip install apache-tvm apache-tvm-ffi==0.1.14.post1"
        require_module("tvm.relax", remedy)
        return str(require_module("tvm", remedy).__version__)

    def probe(self) -> RuntimeFacts:
        version = self.import_runtime()
        target = TargetFacts("CPU", tuple(self.wants), "llvm %s" % host_target()["mcpu"])
        return facts_of(self, version, (target,))

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> TvmSession:
        checked(chosen(self.name, self.options, runtime.options))
        require_precision(self.name, runtime.precision, tuple(self.wants))
        require_target(self.name, runtime.target, ("CPU",))
        self.import_runtime()
        import tvm

        about = _about(artifact)
        require_own_machine(artifact)
        own = [_spec(value) for value in about["inputs"]]
        if inputs:
            require_shapes(inputs, own)
        # TVM reads it when its thread pool starts, at the first parallel loop. The alternative,
        # ``config_threadpool``, can only lower TVM's own number, which is that of physical cores.
        if runtime.threads:
            os.environ["TVM_NUM_THREADS"] = str(runtime.threads)
        try:
            library = tvm.runtime.load_module(str(artifact))
            machine = tvm.relax.VirtualMachine(library, tvm.cpu())
        except Exception as error:  # TVM passes on what its C++ side threw
            raise BadModel("tvm cannot load %s: %s" % (artifact.name, str(error)[-400:])) from error
        return TvmSession(machine, about, tuple(inputs or own))


def _about(artifact: Path) -> Dict[str, Any]:
    """The converter's notes beside the library. Raises ``BadModel``."""
    path = artifact.resolve().with_name("model.json")
    try:
        with open(str(path), encoding="utf-8") as file:
            about: Dict[str, Any] = json.load(file)
        for key in ("inputs", "outputs", "target", "tuning"):
            about[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModel(
            "%s is no TVM library of ours: its model.json: %r" % (artifact.name, error)
        ) from error
    return about


def _spec(value: Dict[str, Any]) -> TensorSpec:
    return TensorSpec(value["name"], value["dtype"], tuple(value["shape"]))


class TvmSession:
    """Inputs lie in TVM's tensors, which are allocated once and overwritten by ``bind``."""

    infer: Callable[[], None]

    def __init__(self, machine: Any, about: Dict[str, Any], inputs: Sequence[TensorSpec]) -> None:
        import tvm

        self._machine = machine
        self.inputs: Sequence[TensorSpec] = inputs
        self._order = [value["name"] for value in about["inputs"]]
        self._names = [value["name"] for value in about["outputs"]]
        self._buffers = HostBuffers(inputs)
        self._tensors: Dict[str, Any] = {}
        # The bound method without its Python wrapper.
        self.infer = partial(machine.module["invoke_stateful"], _MAIN)
        before = _processors()
        self.outputs: Sequence[TensorSpec] = self._first_outputs()
        pinned = _processors()
        self.placement = "CPU, llvm %s, %d threads%s, %s" % (
            about["target"].get("mcpu", ""),
            tvm.runtime.num_threads(),
            # Its pool does so when it starts: another process on that core then costs more.
            " (TVM pinned this one to CPU %s)" % pinned if pinned != before else "",
            _tuning(about),
        )

    def _first_outputs(self) -> List[TensorSpec]:
        """The outputs of a run on zeros: the library does not describe them."""
        self.bind(zero_feed(self.inputs))
        self.infer()
        return [TensorSpec(name, str(a.dtype), a.shape) for name, a in self.read().items()]

    def bind(self, feed: Feed) -> None:
        import tvm

        if self._buffers.fill(feed):
            arrays = self._buffers.arrays
            self._tensors = {name: tvm.runtime.tensor(a) for name, a in arrays.items()}
            self._machine.set_input(_MAIN, *[self._tensors[name] for name in self._order])
            return
        for name, tensor in self._tensors.items():
            tensor.copyfrom(self._buffers.arrays[name])

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        found = self._machine.get_outputs(_MAIN)
        leaves = list(found) if isinstance(found, (tuple, list)) else [found]
        return {name: np.array(leaves[n].numpy()) for n, name in enumerate(self._names)}

    def close(self) -> None:
        self._machine = None
        self._tensors = {}
        self.infer = closed_session


def _tuning(about: Dict[str, Any]) -> str:
    if about["tuning"] != "metaschedule":
        return "default schedules"
    return "MetaSchedule: %s functions tuned, %s records" % (
        about.get("tuned_functions"),
        about.get("records"),
    )


def _processors() -> str:
    """The CPUs that this thread may run on; empty where the system does not tell."""
    allowed = getattr(os, "sched_getaffinity", None)
    return ", ".join(str(n) for n in sorted(allowed(0))) if allowed else ""


BACKEND = Tvm
