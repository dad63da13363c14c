"""ONNX or OpenVINO IR in FP32 to OpenVINO IR with FP16 weights, as ``ovc`` makes by default.

The weights take half the room; what is computed in FP16 is up to the device.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from agent.contract.conversion_graph import Edge
from agent.contract.failures import ConversionFailed
from agent.runtimes.backend import Options
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.openvino.converters.nncf_quantize import read_model


class OpenVinoFp16:
    name = "openvino_fp16"
    edges = tuple(
        Edge("openvino_fp16", (source, "fp32"), ("openvino_ir", "fp16"))
        for source in ("onnx", "openvino_ir")
    )
    needs_calibration = False
    modules = ("openvino",)
    commands = ()
    keeps = ("dynamic_shapes", "layout", "names")
    where = ("device", "builder")
    options: ClassVar[Options] = {}

    def convert(
        self,
        source: Path,
        folder: Path,
        calibration: Calibration,  # noqa: ARG002
    ) -> ConvertedArtifact:
        import openvino

        model = read_model(openvino, source)
        artifact = folder / "model.xml"
        try:
            openvino.save_model(model, str(artifact), compress_to_fp16=True)
        except RuntimeError as error:
            raise ConversionFailed("%s: %s" % (self.name, error)) from error
        version = str(openvino.__version__).split("-")[0]
        return ConvertedArtifact(artifact, "%s %s, weights fp16" % (self.name, version))


CONVERTER = OpenVinoFp16
