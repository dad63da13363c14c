"""``torch.export`` program to TFLite by litert-torch, without TensorFlow.

Its files call their tensors args_0, … and output_0, …; with ``io_layout: nhwc`` every input of four
dimensions is taken channels last, as cameras and most TFLite code have it.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import UnsupportedOperator
from agent.contract.trial import TensorSpec
from agent.runtimes.converter import Calibration, ConvertedArtifact, failed, is_ours, own_options
from agent.runtimes.pytorch import exported_program

OPTIONS: Mapping[str, Tuple[str, ...]] = {"io_layout": ("source", "nhwc")}

_NO_LOWERING = "Lowering not found: "


class LitertTorch:
    name = "litert_torch"
    edges = (Edge("litert_torch", ("pt2", "fp32"), ("tflite", "fp32")),)
    needs_calibration = False
    modules = ("litert_torch", "torch")
    commands = ()
    keeps = ()
    where = ("device", "builder")
    options = OPTIONS

    def __init__(self) -> None:
        self._last = False
        self._inputs: Sequence[TensorSpec] = ()

    def configure(self, job: ConvertJob) -> None:
        self._last = own_options(self.name, OPTIONS, job)["io_layout"] == "nhwc"
        self._inputs = job.model.inputs

    def convert(
        self,
        source: Path,
        folder: Path,
        calibration: Calibration,  # noqa: ARG002
    ) -> ConvertedArtifact:
        program = exported_program.load(source)
        artifact = folder / "model.tflite"
        try:
            fixed = exported_program.fixed(program, self._inputs)
            inputs, outputs = _specs(fixed, self._last)
            _convert(fixed, inputs, self._last, artifact)
        except Exception as error:  # torch, jax and litert each raise their own
            raise _named(self.name, error) from error
        step = "%s %s%s" % (
            self.name,
            importlib.metadata.version("litert-torch"),
            ", inputs NHWC" if self._last else "",
        )
        return ConvertedArtifact(artifact, step, tuple(inputs), tuple(outputs))


def _specs(program: Any, last: bool) -> Tuple[List[TensorSpec], List[TensorSpec]]:
    """What the file's inputs and outputs will be."""
    inputs = [
        replace(spec, name="args_%d" % n)
        for n, spec in enumerate(exported_program.inputs_of(program))
    ]
    if last:
        inputs = [_channels_last(spec) if len(spec.shape) == 4 else spec for spec in inputs]
    outputs = exported_program.outputs_of(program)
    return inputs, [replace(spec, name="output_%d" % n) for n, spec in enumerate(outputs)]


def _channels_last(spec: TensorSpec) -> TensorSpec:
    n, c, h, w = spec.shape
    return replace(spec, shape=(n, h, w, c), layout="NHWC")


def _convert(program: Any, inputs: Sequence[TensorSpec], last: bool, artifact: Path) -> None:
    import litert_torch
    import torch

    module = program.module()
    pictures = [n for n, spec in enumerate(inputs) if spec.layout == "NHWC"]
    if last and pictures:
        module = litert_torch.to_channel_last_io(module, args=pictures)
    example = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    litert_torch.convert(module, example).export(str(artifact))


def _named(converter: str, error: Exception) -> Exception:
    """What the tools raised, by our names; an error of ours stays as it is."""
    if is_ours(error):
        return error
    message = str(error)
    if _NO_LOWERING in message:
        return UnsupportedOperator(converter, message.split(_NO_LOWERING)[1].split()[0])
    return failed(converter, error)


CONVERTER = LitertTorch
