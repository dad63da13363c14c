"""ONNX, or OpenVINO IR in FP32, to OpenVINO IR with FP16 weights, which is the default of ``ovc``.

The weights take half the space; whether FP16 is computed in is up to the device.
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.conversion_graph import Edge
from agent.contract.failures import ConversionFailed
from agent.runtimes.converter import Calibration, ConvertedArtifact, ConverterBase
from agent.runtimes.openvino.converters.nncf_quantize import read_model
from agent.runtimes.openvino.devices import version
from agent.runtimes.openvino.precision_count import ir_share
from agent.runtimes.refusals import sentence


class OpenVinoFp16(ConverterBase):
    name = "openvino_fp16"
    edges = tuple(
        Edge("openvino_fp16", source, ("openvino_ir", "fp16"))
        for source in (("onnx", "fp32"), ("openvino_ir", "fp32"), ("onnx", "fp16"))
    )
    modules = ("openvino",)
    keeps = ("dynamic_shapes", "layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        import openvino

        model = read_model(openvino, source)
        artifact = folder / "model.xml"
        try:
            openvino.save_model(model, str(artifact), compress_to_fp16=True)
        except RuntimeError as error:
            raise ConversionFailed("%s: %s" % (self.name, sentence(error))) from error
        share = ir_share(artifact, "fp16", self._inputs)
        if share.weights[1]:  # without weights the file has nothing to change, the device has
            share.required(self.name)
        step = "%s %s, weights fp16, %s" % (self.name, version(), share.words())
        return ConvertedArtifact(artifact, step)


CONVERTER = OpenVinoFp16
