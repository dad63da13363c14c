"""``torch.export`` program to TFLite in INT8 by litert-torch: PyTorch's PT2E quantisation, static,
with symmetric weights. Inputs and outputs stay FP32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, List, Sequence

from agent.contract.conversion_graph import Edge
from agent.formats.tflite import read
from agent.formats.tflite_precision import tflite_share
from agent.runtimes.backend import Feeds, Options
from agent.runtimes.converter import Calibration, ConvertedArtifact, ConverterBase
from agent.runtimes.pytorch import exported_program
from agent.runtimes.pytorch.converters import litert_torch


class LitertQuantize(ConverterBase):
    name = "litert_quantize"
    edges = (Edge("litert_quantize", ("pt2", "fp32"), ("tflite", "int8")),)
    needs_calibration = True
    modules = ("litert_torch", "torch", "torchao")
    keeps = ()
    options: ClassVar[Options] = {"per_channel": ("on", "off"), **litert_torch.OPTIONS}

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        channels_last = self._options["io_layout"] == "nhwc"
        per_channel = self._options["per_channel"] == "on"
        program = exported_program.load(source)
        artifact = folder / "model.tflite"
        try:
            fixed = exported_program.fixed(program, self._inputs)
            inputs, outputs = litert_torch.specs(fixed, channels_last)
            own = exported_program.inputs_of(program)
            order = [spec.name for spec in exported_program.renamed(own, self._inputs)]
            quantizer = _quantizer(per_channel)
            module = _quantised(fixed, quantizer, calibration.feeds, order)
            litert_torch.write(module, inputs, channels_last, artifact, quantizer)
        except Exception as error:  # torch, jax and litert each raise their own
            raise litert_torch.named(self.name, error) from error
        step = "%s %s, full integer, weights %s, inputs and outputs fp32%s, %s, %s" % (
            self.name,
            litert_torch.version(),
            "per channel" if per_channel else "per tensor",
            ", inputs NHWC" if channels_last else "",
            calibration.origin,
            tflite_share(read(artifact), "int8").required(self.name).words(),
        )
        return ConvertedArtifact(artifact, step, tuple(inputs), tuple(outputs))


def _quantizer(per_channel: bool) -> Any:
    from litert_torch.quantize import pt2e_quantizer

    config = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=per_channel)
    return pt2e_quantizer.PT2EQuantizer().set_global(config)


def _quantised(program: Any, quantizer: Any, feeds: Feeds, order: Sequence[str]) -> Any:
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(program.module(), quantizer)
    arguments: List[Any] = [tuple(torch.from_numpy(feed[name]) for name in order) for feed in feeds]
    with torch.no_grad():
        for argument in arguments:
            prepared(*argument)
    return convert_pt2e(prepared, fold_quantize=False)


CONVERTER = LitertQuantize
