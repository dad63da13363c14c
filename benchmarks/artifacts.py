"""One network of the zoo in every format that a benchmark loads, made when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from agent.contract.child_jobs import Converted, ConvertJob, Referenced, ReferenceJob
from agent.contract.conversion_graph import Edge
from agent.contract.trial import ModelRef, ReferenceRef, RuntimeRef, TensorSpec
from benchmarks.child import ask, output
from benchmarks.interpreters import ROOT, needed
from orchestrator.zoo import catalogue, emit_onnx

ZOO = ROOT / "orchestrator" / "zoo" / "__main__.py"
TFLITE_FILE = Path(__file__).parent / "vendor" / "tflite_file.py"


@dataclass(frozen=True)
class Artifact:
    """``feed`` is one input in the artifact's own axes; ``own_…`` as in ``ModelRef``."""

    path: Path
    format: str
    feed: Path
    own_inputs: tuple[TensorSpec, ...] = ()
    own_outputs: tuple[TensorSpec, ...] = ()


class Files:
    """``name`` in ``folder``. Each format raises ``Missing`` where its tool is not here."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir()
        network = catalogue.load(name)
        self._source = folder / "model.onnx"
        sha256 = emit_onnx.write(network, self._source)
        (given,), (taken,) = network.inputs, network.outputs
        self.model = ModelRef(
            name=name,
            format="onnx",
            sha256=sha256,
            size_bytes=self._source.stat().st_size,
            inputs=(TensorSpec(given.name, "float32", (1, *given.shape), "NCHW"),),
            outputs=(TensorSpec(taken.name, "float32", (1, *taken.shape)),),
        )
        job = ReferenceJob(self.model, str(self._source), str(folder), feeds=1)
        made = ask(needed("onnxruntime"), "reference", job, Referenced)
        assert made.failure is None, made.failure
        self.reference = ReferenceRef("", 0, 1, made.origin)
        with np.load(made.path) as arrays:
            feed = arrays[f"input:{given.name}"][0]
        np.save(folder / "nchw.npy", feed)
        np.save(folder / "nhwc.npy", np.ascontiguousarray(feed.transpose(0, 2, 3, 1)))

    @property
    def onnx(self) -> Artifact:
        return Artifact(self._source, "onnx", self.folder / "nchw.npy")

    @cached_property
    def pt2(self) -> Artifact:
        path = self.folder / "model.pt2"
        output(needed("pytorch"), ZOO, "emit_torch", self.name, path)
        return Artifact(path, "pt2", self.folder / "nchw.npy")

    @cached_property
    def keras(self) -> Artifact:
        path = self.folder / "model.keras"
        output(needed("tensorflow"), ZOO, "emit_keras", self.name, path)
        (given,) = self.model.inputs
        channels, *size = given.shape[1:]
        own = TensorSpec(given.name, "float32", (1, *size, channels), "NHWC")
        out = (TensorSpec("output", "float32", self.model.outputs[0].shape),)
        return Artifact(path, "keras", self.folder / "nhwc.npy", (own,), out)

    @cached_property
    def tflite(self) -> Artifact:
        path = self.folder / "model.tflite"
        output(needed("tensorflow"), TFLITE_FILE, self.keras.path, path)
        return Artifact(path, "tflite", self.folder / "nhwc.npy")

    @cached_property
    def tvm_library(self) -> Artifact:
        edge = Edge("tvm_compile", ("onnx", "fp32"), ("tvm_library", "fp32"))
        folder = self.folder / "tvm"
        job = ConvertJob(self.model, RuntimeRef("tvm"), str(self._source), str(folder), way=(edge,))
        made = ask(needed("tvm"), "convert", job, Converted)
        assert made.failure is None, made.failure
        return Artifact(Path(made.artifact), made.format, self.folder / "nchw.npy")
