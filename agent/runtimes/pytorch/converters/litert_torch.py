"""``torch.export`` program to TFLite by litert-torch, without TensorFlow.

The file's tensors are named args_0, … and output_0, …; with ``io_layout: nhwc`` every input of four
dimensions is channels last, like images of cameras and the inputs of most TFLite models.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

from agent.contract.conversion_graph import Edge
from agent.contract.failures import UnsupportedOperator
from agent.contract.trial import TensorSpec
from agent.runtimes.converter import (
    Calibration,
    ConvertedArtifact,
    ConverterBase,
    failed,
    is_ours,
)
from agent.runtimes.pytorch import exported_program

OPTIONS: Mapping[str, Tuple[str, ...]] = {"io_layout": ("source", "nhwc")}

_NO_LOWERING = "Lowering not found: "


class LitertTorch(ConverterBase):
    name = "litert_torch"
    edges = (Edge("litert_torch", ("pt2", "fp32"), ("tflite", "fp32")),)
    modules = ("litert_torch", "torch")
    keeps = ()
    options = OPTIONS

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        channels_last = self._options["io_layout"] == "nhwc"
        program = exported_program.load(source)
        artifact = folder / "model.tflite"
        try:
            fixed = exported_program.fixed(program, self._inputs)
            inputs, outputs = specs(fixed, channels_last)
            write(fixed.module(), inputs, channels_last, artifact)
        except Exception as error:  # torch, jax and litert each raise their own
            raise named(self.name, error) from error
        step = "%s %s%s" % (
            self.name,
            version(),
            ", inputs NHWC" if channels_last else "",
        )
        return ConvertedArtifact(artifact, step, tuple(inputs), tuple(outputs))


def version() -> str:
    return importlib.metadata.version("litert-torch")


def specs(program: Any, channels_last: bool) -> Tuple[List[TensorSpec], List[TensorSpec]]:
    """The inputs and outputs that the TFLite file will have."""
    inputs = [
        replace(spec, name="args_%d" % n)
        for n, spec in enumerate(exported_program.inputs_of(program))
    ]
    if channels_last:
        inputs = [_channels_last(spec) if len(spec.shape) == 4 else spec for spec in inputs]
    outputs = exported_program.outputs_of(program)
    return inputs, [replace(spec, name="output_%d" % n) for n, spec in enumerate(outputs)]


def _channels_last(spec: TensorSpec) -> TensorSpec:
    n, c, h, w = spec.shape
    return replace(spec, shape=(n, h, w, c), layout="NHWC")


def write(
    module: Any,
    inputs: Sequence[TensorSpec],
    channels_last: bool,
    artifact: Path,
    quantizer: Any = None,
) -> None:
    """Write ``module`` as TFLite. ``quantizer``: the one that it was quantised with."""
    import litert_torch
    import torch
    from litert_torch.quantize.quant_config import QuantConfig

    images = [n for n, spec in enumerate(inputs) if spec.layout == "NHWC"]
    if channels_last and images:
        module = litert_torch.to_channel_last_io(module, args=images)
    example = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    config = None if quantizer is None else QuantConfig(pt2e_quantizer=quantizer)
    litert_torch.convert(module, example, quant_config=config).export(str(artifact))


def named(converter: str, error: Exception) -> Exception:
    """The named error that a tool's error means."""
    if is_ours(error):
        return error
    message = str(error)
    if _NO_LOWERING in message:
        return UnsupportedOperator(converter, message.split(_NO_LOWERING)[1].split()[0])
    return failed(converter, error)


CONVERTER = LitertTorch
