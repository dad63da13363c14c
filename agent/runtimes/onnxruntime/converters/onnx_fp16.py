"""ONNX FP32 to ONNX FP16 by ONNX Runtime's ``transformers.float16``.

Inputs and outputs stay FP32, so that the same feeds and references apply. Operators for which the
tool knows no FP16 kernel (resizing, non-maximum suppression and the like) stay FP32 too.
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.conversion_graph import Edge
from agent.formats.onnx import dimensions_of
from agent.formats.onnx_external_data import require_one_message
from agent.runtimes.converter import (
    Calibration,
    ConvertedArtifact,
    ConverterBase,
    conversion_errors,
)


class OnnxFp16(ConverterBase):
    name = "onnx_fp16"
    edges = (Edge("onnx_fp16", ("onnx", "fp32"), ("onnx", "fp16")),)
    modules = ("onnx", "onnxruntime")
    keeps = ("dynamic_shapes", "layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        import onnx
        import onnxruntime
        from onnxruntime.transformers import float16

        require_one_message(source, self.name)
        dimensions_of(source)  # refuses a file that is not ONNX
        artifact = folder / "model.onnx"
        with conversion_errors(self.name):
            model = float16.convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
            onnx.save(model, str(artifact))
        step = "%s %s, inputs and outputs fp32" % (self.name, onnxruntime.__version__)
        return ConvertedArtifact(artifact, step)


CONVERTER = OnnxFp16
