"""ONNX or OpenVINO IR in FP32 to OpenVINO IR in INT8 by NNCF post-training quantisation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

from agent.contract.conversion_graph import Edge
from agent.runtimes.converter import (
    Calibration,
    ConvertedArtifact,
    ConverterBase,
    conversion_errors,
)
from agent.runtimes.openvino.devices import version
from agent.runtimes.openvino.load_errors import named_error
from agent.runtimes.openvino.precision_count import ir_share

OPTIONS: Mapping[str, Tuple[str, ...]] = {
    "preset": ("performance", "mixed"),
    "per_channel": ("on", "off"),
}


class NncfQuantize(ConverterBase):
    name = "nncf_quantize"
    edges = tuple(
        Edge("nncf_quantize", (source, "fp32"), ("openvino_ir", "int8"))
        for source in ("onnx", "openvino_ir")
    )
    needs_calibration = True
    modules = ("nncf", "openvino")
    keeps = ("dynamic_shapes", "layout", "names")
    options = OPTIONS

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        os.environ["NNCF_CI"] = "1"  # the only switch that turns its telemetry off
        import nncf
        import openvino

        nncf.set_log_level(30)
        options = self._options
        original = read_model(openvino, source)
        artifact = folder / "model.xml"
        with conversion_errors(self.name):
            quantised = nncf.quantize(
                original,
                nncf.Dataset(calibration.feeds),
                subset_size=len(calibration.feeds),
                **_arguments(options),
            )
            openvino.save_model(quantised, str(artifact), compress_to_fp16=False)
        share = ir_share(artifact, "int8", self._inputs).required(self.name)
        step = "%s %s, openvino %s, preset %s, weights %s, %s, %s" % (
            self.name,
            nncf.__version__,
            version(),
            options["preset"],
            "per channel" if options["per_channel"] == "on" else "per tensor",
            calibration.origin,
            share.words(),
        )
        return ConvertedArtifact(artifact, step)


def _arguments(options: Dict[str, str]) -> Dict[str, Any]:
    """``performance``: symmetric; ``mixed``: asymmetric activations. Per channel is the default."""
    import nncf

    found: Dict[str, Any] = {"preset": nncf.QuantizationPreset(options["preset"])}
    if options["per_channel"] == "off":
        from nncf.quantization import advanced_parameters as advanced

        found["advanced_parameters"] = advanced.AdvancedQuantizationParameters(
            weights_quantization_params=advanced.QuantizationParameters(per_channel=False)
        )
    return found


def read_model(openvino: Any, source: Path) -> Any:
    """``source`` as OpenVINO's model. Raises ``Unsupported…``, ``BadModel``."""
    try:
        return openvino.Core().read_model(str(source))
    except RuntimeError as error:
        raise named_error(error, source) from error


CONVERTER = NncfQuantize
