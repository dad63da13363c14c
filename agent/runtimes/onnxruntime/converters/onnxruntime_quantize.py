"""ONNX FP32 to ONNX INT8 by ONNX Runtime's static quantiser, for ONNX Runtime.

QDQ format, signed 8-bit weights. By default per channel, with **unsigned** 8-bit activations (on
processors with VNNI 1.5× faster than signed ones) and min-max calibration; signed activations are
made symmetric, the only kind that TensorRT takes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import ConversionFailed
from agent.formats.onnx import dimensions_of
from agent.formats.onnx_external_data import external_files, require_one_message
from agent.runtimes.backend import Feeds
from agent.runtimes.converter import Calibration, ConvertedArtifact, own_options

OPTIONS: Mapping[str, Tuple[str, ...]] = {
    "per_channel": ("on", "off"),
    "activation_type": ("u8", "s8"),
    "calibration_method": ("minmax", "entropy", "percentile"),
}


class OnnxRuntimeQuantize:
    name = "onnxruntime_quantize"
    edges = (Edge("onnxruntime_quantize", ("onnx", "fp32"), ("onnx", "int8")),)
    needs_calibration = True
    modules = ("onnx", "onnxruntime")
    commands = ()
    keeps = ("dynamic_shapes", "layout", "names")
    where = ("device", "builder")
    options = OPTIONS

    def __init__(self) -> None:
        self._options = {key: values[0] for key, values in OPTIONS.items()}

    def configure(self, job: ConvertJob) -> None:
        self._options = own_options(self.name, OPTIONS, job)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        import onnx
        import onnxruntime
        from onnxruntime.quantization import quantize_static

        options = self._options
        require_one_message(source, self.name)
        dimensions_of(source)  # refuses what is no ONNX model
        # It writes a shape-inferred copy beside its input: give it one in our folder.
        inside = folder / "source.onnx"
        if external_files(source):
            onnx.save(onnx.load(str(source)), str(inside))
        else:
            os.symlink(str(source.resolve()), str(inside))
        artifact = folder / "model.onnx"
        try:
            quantize_static(
                str(inside), str(artifact), _Reader(calibration.feeds), **_arguments(options)
            )
        except MemoryError:
            raise
        except Exception as error:  # onnx, protobuf and onnxruntime each raise their own
            raise ConversionFailed("%s: %s" % (self.name, error)) from error
        finally:
            inside.unlink()
        step = "%s %s, QDQ %s activations s8 weights %s, %s, %s" % (
            self.name,
            onnxruntime.__version__,
            options["activation_type"],
            "per channel" if options["per_channel"] == "on" else "per tensor",
            options["calibration_method"],
            calibration.origin,
        )
        return ConvertedArtifact(artifact, step)


def _arguments(options: Dict[str, str]) -> Dict[str, Any]:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    signed = options["activation_type"] == "s8"
    return {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QInt8 if signed else QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": options["per_channel"] == "on",
        "calibrate_method": methods[options["calibration_method"]],
        "extra_options": {"ActivationSymmetric": signed},
    }


class _Reader:
    """What onnxruntime calls a CalibrationDataReader: ``get_next`` until ``None``."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds: Iterator[Dict[str, Any]] = iter(feeds)

    def get_next(self) -> Optional[Dict[str, Any]]:
        return next(self._feeds, None)


CONVERTER = OnnxRuntimeQuantize
