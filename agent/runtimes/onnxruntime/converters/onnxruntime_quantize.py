"""ONNX FP32 to ONNX INT8 by ONNX Runtime's static quantiser.

QDQ format, signed 8-bit weights. The defaults are per channel, **unsigned** 8-bit activations (1.5×
faster than signed ones on processors with VNNI) and min-max calibration. Signed activations are
symmetric, the only kind that TensorRT accepts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from agent.contract.conversion_graph import Edge
from agent.contract.failures import UnsupportedOperator
from agent.formats.onnx import dimensions_of
from agent.formats.onnx_external_data import require_one_message
from agent.runtimes.backend import Feeds
from agent.runtimes.converter import (
    Calibration,
    ConvertedArtifact,
    ConverterBase,
    failed,
)
from agent.runtimes.onnxruntime.converter_check import read_fp32, refused
from agent.runtimes.onnxruntime.load_errors import named_load_error
from agent.runtimes.onnxruntime.precision_count import onnx_share, with_bodies
from agent.runtimes.refusals import sentence

PER_CHANNEL_OPSET, PER_CHANNEL_IR = 13, 7
"""The opset that brought scales per channel, and the version of the file format that it came with.
"""

OPTIONS: Mapping[str, Tuple[str, ...]] = {
    "per_channel": ("on", "off"),
    "activation_type": ("u8", "s8"),
    "calibration_method": ("minmax", "entropy", "percentile"),
}


class OnnxRuntimeQuantize(ConverterBase):
    name = "onnxruntime_quantize"
    edges = (Edge("onnxruntime_quantize", ("onnx", "fp32"), ("onnx", "int8")),)
    needs_calibration = True
    modules = ("onnx", "onnxruntime")
    keeps = ("dynamic_shapes", "layout", "names")
    options = OPTIONS

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        import onnx
        import onnxruntime

        require_one_message(source, self.name)
        dimensions_of(source)  # refuses a file that is not ONNX
        model = read_fp32(self.name, source)
        model, remark, per_channel = raised(model, self._options)
        _require_histograms(model, self._options["calibration_method"])
        # It writes a shape-inferred copy beside its input, so the input must lie in our folder.
        inside = folder / "source.onnx"
        onnx.save(model, str(inside))
        del model
        artifact = folder / "model.onnx"
        options = {**self._options, "per_channel": per_channel}
        try:
            self._quantise(inside, artifact, calibration.feeds, options)
        finally:
            inside.unlink()
        error = refused(self.name, source, artifact, self._inputs)
        if error is not None:
            raise error
        share = onnx_share(onnx.load(str(artifact)), "int8", self._inputs)
        step = "%s %s, QDQ %s activations s8 weights %s, %s, %s, %s" % (
            self.name,
            onnxruntime.__version__,
            options["activation_type"],
            ("per channel" if per_channel == "on" else "per tensor") + remark,
            options["calibration_method"],
            calibration.origin,
            share.required(self.name).words(),
        )
        return ConvertedArtifact(artifact, step)

    def _quantise(
        self, inside: Path, artifact: Path, feeds: Feeds, options: Dict[str, str]
    ) -> None:
        from onnxruntime.quantization import quantize_static

        try:
            quantize_static(str(inside), str(artifact), _Reader(feeds), **_arguments(options))
        except MemoryError:
            raise
        except Exception as error:  # the tool passes on what ONNX Runtime raises while calibrating
            named = named_load_error(error)
            if isinstance(named, UnsupportedOperator):
                raise named from error
            raise failed(self.name, error) from error


def raised(model: Any, options: Dict[str, str]) -> Tuple[Any, str, str]:
    """The model in an opset that has the wanted form of quantisation, a remark on what was done to
    it, and ``per_channel`` in force: opset 13 brought scales per channel."""
    import onnx

    before = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if before >= PER_CHANNEL_OPSET or options["per_channel"] == "off":
        return model, "", options["per_channel"]
    try:
        newer = onnx.version_converter.convert_version(model, PER_CHANNEL_OPSET)
        newer.ir_version = max(newer.ir_version, PER_CHANNEL_IR)
        onnx.checker.check_model(newer, full_check=True)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - it passes on what its C++ side threw
        remark = " (opset %d has no scales per channel, and onnx cannot raise it to %d: %s)"
        remark %= (before, PER_CHANNEL_OPSET, sentence(error, 160))
        return model, remark, "off"
    return newer, " (opset %d raised to %d)" % (before, PER_CHANNEL_OPSET), "on"


def _require_histograms(model: Any, method: str) -> None:
    """Raises ``UnsupportedOperator``: the tool's histograms do not see into bodies of operators."""
    bodies = with_bodies(model)
    if bodies and method != "minmax":
        raise UnsupportedOperator(
            "onnxruntime_quantize",
            ", ".join(bodies),
            "calibration_method: %s collects no values inside of its body; choose minmax" % method,
            use=True,
        )


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
    """onnxruntime's interface ``CalibrationDataReader``: ``get_next`` until it gives ``None``."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds: Iterator[Dict[str, Any]] = iter(feeds)

    def get_next(self) -> Optional[Dict[str, Any]]:
        return next(self._feeds, None)


CONVERTER = OnnxRuntimeQuantize
