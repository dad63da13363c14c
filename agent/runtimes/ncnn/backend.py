"""ncnn running a network that ``ncnn_pnnx`` made, on the CPU, or on a GPU through Vulkan."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Sequence, Tuple

import numpy as np

from agent.contract.device import RuntimeFacts, TargetFacts
from agent.contract.failures import BadModel, UnsupportedShape, UnsupportedTarget
from agent.contract.trial import RuntimeRef, TensorSpec
from agent.runtimes.backend import Feed, Options, Wants, closed_session
from agent.runtimes.host_buffers import HostBuffers, zero_feed
from agent.runtimes.ncnn.converters.ncnn_pnnx import NOTES, require_layers
from agent.runtimes.validation import (
    chosen,
    facts_of,
    require_module,
    require_precision,
    require_shapes,
)

_VULKAN = "VULKAN:%d"
_NARROWED = {"int64": "int32", "bool": "int32"}
_KEYS = ("inputs", "outputs", "sizes")


class Ncnn:
    """Accepts ONNX, through its converter: a ``.param`` alone does not hold shapes."""

    name = "ncnn"
    accepts = ("onnx",)
    wants: ClassVar[Wants] = {p: (("ncnn", p),) for p in ("fp32", "fp16")}
    options: ClassVar[Options] = {"winograd": ("on", "off"), "packing": ("on", "off")}

    def import_runtime(self) -> str:
        return str(_ncnn().__version__)

    def probe(self) -> RuntimeFacts:
        ncnn = _ncnn()
        found = [TargetFacts("CPU", tuple(self.wants), "%d cores" % ncnn.get_cpu_count())]
        for number in range(ncnn.get_gpu_count()):
            words = "%s, by Vulkan" % ncnn.get_gpu_info(number).device_name()
            found.append(TargetFacts(_VULKAN % number, tuple(self.wants), words))
        return facts_of(self, self.import_runtime(), found)

    def load(
        self, artifact: Path, runtime: RuntimeRef, inputs: Sequence[TensorSpec] = ()
    ) -> NcnnSession:
        ncnn = _ncnn()
        options = chosen(self.name, self.options, runtime.options)
        require_precision(self.name, runtime.precision, tuple(self.wants))
        net = ncnn.Net()
        gpu = _gpu(ncnn, runtime.target)
        net.opt.use_vulkan_compute = gpu is not None
        if gpu is not None:
            net.set_vulkan_device(gpu)
        if runtime.threads:
            net.opt.num_threads = runtime.threads
        half = runtime.precision == "fp16"
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
        net.opt.use_bf16_storage = False
        net.opt.use_winograd_convolution = options["winograd"] == "on"
        net.opt.use_packing_layout = options["packing"] == "on"
        about = _about(artifact)
        weights = artifact.resolve().with_suffix(".bin")
        # ncnn only says that it failed, so missing layers are looked for beforehand.
        require_layers(ncnn, artifact)
        if net.load_param(str(artifact)) or net.load_model(str(weights)):
            raise BadModel("ncnn cannot load %s" % artifact.name)
        words = "%s, %d threads, %s" % (runtime.target, net.opt.num_threads, runtime.precision)
        if half:
            words += " storage, and arithmetic where the processor has it"
        return NcnnSession(net, about, inputs, words)


def _ncnn() -> Any:
    """The module ``ncnn``. Raises ``RuntimeMissing``."""
    return require_module("ncnn", "install it with pip install ncnn")


def _gpu(ncnn: Any, target: str) -> Any:
    """The number of the target's Vulkan device; ``None`` for the CPU.

    Raises:
        UnsupportedTarget.
    """
    if target == "CPU":
        return None
    known = [_VULKAN % number for number in range(ncnn.get_gpu_count())]
    if target not in known:
        raise UnsupportedTarget("ncnn", target, ["CPU", *known])
    return known.index(target)


def _about(artifact: Path) -> Dict[str, Any]:
    """The converter's notes beside the network.

    The sizes of the files are checked against the notes: ncnn reads past the end of truncated
    weights.

    Raises:
        BadModel: no notes, or a file of another size.
    """
    folder = artifact.resolve().parent
    try:
        about: Dict[str, Any] = json.loads((folder / NOTES).read_text("utf-8"))
        for key in _KEYS:
            about[key]
        sizes = {name: os.path.getsize(str(folder / name)) for name in about["sizes"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModel("%s is no ncnn network of ours: %r" % (artifact.name, error)) from error
    for name, size in about["sizes"].items():
        if sizes[name] != size:
            raise BadModel("%s has %d bytes of %d" % (name, sizes[name], size))
    return about


class NcnnSession:
    """``bind`` makes ncnn's tensors; ``infer`` runs them through a new extractor, because an
    extractor keeps what it has computed."""

    infer: Callable[[], None]

    def __init__(
        self, net: Any, about: Dict[str, Any], inputs: Sequence[TensorSpec], words: str
    ) -> None:
        self._net: Any = net
        own = [TensorSpec(t["name"], t["dtype"], tuple(t["shape"])) for t in about["inputs"]]
        if inputs:
            require_shapes(inputs, own)
        self.inputs: Sequence[TensorSpec] = tuple(inputs or own)
        self.placement = words
        self._batch_axes = {t["name"]: t["batch_axis"] for t in about["inputs"]}
        self._blobs = {t["name"]: "in%d" % n for n, t in enumerate(about["inputs"])}
        self._output_notes = about["outputs"]
        self._buffers = HostBuffers(self.inputs)
        self._mats: List[Tuple[str, Any]] = []
        self._extracted = [("out%d" % n) for n in range(len(self._output_notes))]
        self._result: List[Any] = []
        self.infer = self._infer
        self.outputs: Sequence[TensorSpec] = self._first_outputs()

    def _first_outputs(self) -> Tuple[TensorSpec, ...]:
        """The outputs of a run on zeros: the network does not describe them. Their batch is free
        where that of an input is."""
        free = any(-1 in spec.shape for spec in self.inputs)
        self.bind(zero_feed(self.inputs))
        self.infer()
        found = self.read()
        return tuple(
            TensorSpec(n, str(a.dtype), (-1, *a.shape[1:]) if free else a.shape)
            for n, a in found.items()
        )

    def bind(self, feed: Feed) -> None:
        ncnn = _ncnn()
        self._buffers.fill(feed)
        self._mats = [
            (self._blobs[name], ncnn.Mat(_narrowed(name, array), self._batch_axes[name]).clone())
            for name, array in self._buffers.arrays.items()
        ]

    def _infer(self) -> None:
        extractor = self._net.create_extractor()
        for blob, mat in self._mats:
            extractor.input(blob, mat)
        result = []
        for blob in self._extracted:
            status, mat = extractor.extract(blob)
            if status:
                raise RuntimeError("ncnn could not compute %s (status %d)" % (blob, status))
            result.append(mat)
        self._result = result

    def read(self) -> Dict[str, "np.ndarray[Any, Any]"]:
        return {
            note["name"]: np.array(self._result[n].numpy(batch_index=note["batch_axis"]))
            for n, note in enumerate(self._output_notes)
        }

    def close(self) -> None:
        self._mats, self._result = [], []
        self._net = None
        self.infer = closed_session


def _narrowed(name: str, array: Any) -> Any:
    """``array`` in 32-bit integers: ncnn has no others. Raises ``UnsupportedShape``: a value does
    not fit."""
    kind = _NARROWED.get(str(array.dtype))
    if kind is None:
        return array
    narrow = array.astype(kind)
    if not np.array_equal(narrow, array):
        raise UnsupportedShape("input %s holds integers of more than 32 bits" % name)
    return narrow


BACKEND = Ncnn
