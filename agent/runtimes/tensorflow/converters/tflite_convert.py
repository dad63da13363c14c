"""SavedModel to TFLite in FP32, by TensorFlow's converter."""

from __future__ import annotations

from pathlib import Path

from agent.contract.conversion_graph import Edge
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow import tflite_conversion
from agent.runtimes.tensorflow.conversion import PortedConverter
from agent.runtimes.tensorflow.models import import_tensorflow


class TfliteConvert(PortedConverter):
    name = "tflite_convert"
    edges = (Edge("tflite_convert", ("savedmodel", "fp32"), ("tflite", "fp32")),)
    modules = ("tensorflow",)
    keeps = ("layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        version = import_tensorflow().__version__
        artifact = folder / "model.tflite"
        graph = tflite_conversion.convert(
            self.name, source, artifact, self._ports, "fp32", lambda *_: None
        )
        inputs, outputs = tflite_conversion.ports_of(graph, self._ports)
        return ConvertedArtifact(artifact, "%s %s" % (self.name, version), inputs, outputs)


CONVERTER = TfliteConvert
