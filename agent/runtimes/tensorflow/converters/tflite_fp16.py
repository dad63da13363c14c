"""SavedModel to TFLite with FP16 weights, by TensorFlow's converter.

The weights take half the space. CPUs convert them to FP32 before use; GPUs and some accelerators
compute with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.contract.conversion_graph import Edge
from agent.formats.tflite_precision import tflite_share
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow import tflite_conversion
from agent.runtimes.tensorflow.conversion import PortedConverter
from agent.runtimes.tensorflow.models import import_tensorflow


class TfliteFp16(PortedConverter):
    name = "tflite_fp16"
    edges = (Edge("tflite_fp16", ("savedmodel", "fp32"), ("tflite", "fp16")),)
    modules = ("tensorflow",)
    keeps = ("layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        tf = import_tensorflow()
        artifact = folder / "model.tflite"

        def set_up(converter: Any, _: Any) -> None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]

        graph = tflite_conversion.convert(self.name, source, artifact, self._ports, "fp16", set_up)
        inputs, outputs = tflite_conversion.ports_of(graph, self._ports)
        share = tflite_share(graph, "fp16").words()
        step = "%s %s, weights fp16, %s" % (self.name, tf.__version__, share)
        return ConvertedArtifact(artifact, step, inputs, outputs)


CONVERTER = TfliteFp16
