"""``torch.export`` program in FP32 to an ExecuTorch program in INT8, by PyTorch's PT2E quantisation
with XNNPACK's quantiser: static, symmetric weights, asymmetric activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Mapping, Sequence, Tuple

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import BadOption
from agent.runtimes.backend import Feeds, Options
from agent.runtimes.converter import Calibration, ConvertedArtifact, ConverterBase
from agent.runtimes.executorch.converters import executorch_lower
from agent.runtimes.pytorch import exported_program
from agent.runtimes.pytorch.precision_count import int8_share

OPTIONS: Mapping[str, Tuple[str, ...]] = {"per_channel": ("on", "off")}


class ExecuTorchQuantize(ConverterBase):
    name = "executorch_quantize"
    edges = (Edge("executorch_quantize", ("pt2", "fp32"), ("executorch_pte", "int8")),)
    needs_calibration = True
    modules = ("executorch", "torch", "torchao")
    keeps = ("layout", "names")
    options: ClassVar[Options] = {**OPTIONS, **executorch_lower.OPTIONS}

    def configure(self, job: ConvertJob) -> None:
        executorch_lower.require_cpu(job)
        super().configure(job)
        if self._options["delegate"] != "xnnpack":
            raise BadOption("executorch int8 goes with option delegate: xnnpack only")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        per_channel = self._options["per_channel"] == "on"
        program = exported_program.load(source)
        try:
            fixed = exported_program.fixed(program, self._inputs)
            own = exported_program.inputs_of(program)
            order = [spec.name for spec in exported_program.renamed(own, self._inputs)]
            quantised = _quantised(fixed, calibration.feeds, order, per_channel)
            share = int8_share(quantised).required(self.name)
            how = executorch_lower.lower(quantised, "xnnpack", folder, program)
        except Exception as error:  # torch and executorch each raise their own
            raise executorch_lower.named(self.name, error) from error
        step = "%s %s, weights %s, %s, %s, %s" % (
            self.name,
            executorch_lower.version(),
            "per channel" if per_channel else "per tensor",
            how,
            calibration.origin,
            share.words(),
        )
        return ConvertedArtifact(folder / "model.pte", step)


def _quantised(program: Any, feeds: Feeds, order: Sequence[str], per_channel: bool) -> Any:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=per_channel))
    prepared = prepare_pt2e(program.module(), quantizer)
    arguments = [tuple(torch.from_numpy(feed[name]) for name in order) for feed in feeds]
    with torch.no_grad():
        for argument in arguments:
            prepared(*argument)
    return torch.export.export(convert_pt2e(prepared), arguments[0])


CONVERTER = ExecuTorchQuantize
