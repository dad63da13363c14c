"""ONNX FP32 to ONNX FP16 by ONNX Runtime's ``transformers.float16``, for ONNX Runtime.

Inputs and outputs stay FP32, so that the same feeds and references fit. Operators that the tool
knows to have no FP16 kernel (resizing, non-maximum suppression and the like) stay FP32 too.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from agent.contract.conversion_graph import Edge
from agent.contract.failures import ConversionFailed
from agent.formats.onnx import dimensions_of
from agent.formats.onnx_external_data import require_one_message
from agent.runtimes.backend import Options
from agent.runtimes.converter import Calibration, ConvertedArtifact


class OnnxFp16:
    name = "onnx_fp16"
    edges = (Edge("onnx_fp16", ("onnx", "fp32"), ("onnx", "fp16")),)
    needs_calibration = False
    modules = ("onnx", "onnxruntime")
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
        import onnx
        import onnxruntime
        from onnxruntime.transformers import float16

        require_one_message(source, self.name)
        dimensions_of(source)  # refuses what is no ONNX model
        artifact = folder / "model.onnx"
        try:
            model = float16.convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
            onnx.save(model, str(artifact))
        except MemoryError:
            raise
        except Exception as error:  # onnx, protobuf and onnxruntime each raise their own
            raise ConversionFailed("%s: %s" % (self.name, error)) from error
        return ConvertedArtifact(
            artifact, "%s %s, inputs and outputs fp32" % (self.name, onnxruntime.__version__)
        )


CONVERTER = OnnxFp16
