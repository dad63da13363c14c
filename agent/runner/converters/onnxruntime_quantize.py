"""ONNX FP32 to ONNX INT8 by ONNX Runtime's static quantiser, for ONNX Runtime.

QDQ format, **unsigned** 8-bit activations (on processors with VNNI 1.5× faster than signed ones),
signed 8-bit weights per channel, min-max calibration.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from agent.runner.converters.base import Calibration, Made
from agent.runner.converters.graph import Edge
from agent.runner.errors import BadModel, ConversionFailed
from agent.runner.inputs import Feeds
from agent.runner.onnx_wire import NotProtobuf, input_dimensions


class OnnxRuntimeQuantize:
    name = "onnxruntime_quantize"
    edges = (Edge("onnxruntime_quantize", ("onnx", "fp32"), ("onnx", "int8")),)
    needs_calibration = True
    modules = ("onnx", "onnxruntime")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> Made:
        import onnxruntime
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        try:
            input_dimensions(source)
        except NotProtobuf as error:
            raise BadModel("%s is not an ONNX model: %s" % (source.name, error)) from error
        # It writes a shape-inferred copy beside its input: give it one in our folder.
        inside = folder / "source.onnx"
        os.symlink(str(source.resolve()), str(inside))
        artifact = folder / "model.onnx"
        try:
            quantize_static(
                str(inside),
                str(artifact),
                _Reader(calibration.feeds),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
        except MemoryError:
            raise
        except Exception as error:  # onnx, protobuf and onnxruntime each raise their own
            raise ConversionFailed("%s: %s" % (self.name, error)) from error
        finally:
            inside.unlink()
        step = "%s %s, QDQ u8 activations s8 weights per channel, %s" % (
            self.name,
            onnxruntime.__version__,
            calibration.origin,
        )
        return Made(artifact, step)


class _Reader:
    """What onnxruntime calls a CalibrationDataReader: ``get_next`` until ``None``."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds: Iterator[Dict[str, Any]] = iter(feeds)

    def get_next(self) -> Optional[Dict[str, Any]]:
        return next(self._feeds, None)


CONVERTER = OnnxRuntimeQuantize
