"""SavedModel to TFLite in INT8, by TensorFlow's converter.

``quantisation: full`` computes on integers only and needs calibration; inputs and outputs are FP32
unless ``quantised_io`` says otherwise. ``dynamic_range`` needs no calibration: weights are
integers, activations are quantised in each inference where the kernel can do it, else FP32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Sequence, Tuple

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.trial import TensorSpec
from agent.formats.tflite_precision import tflite_share
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow import tflite_conversion
from agent.runtimes.tensorflow.conversion import PortedConverter, feeds_for
from agent.runtimes.tensorflow.graph_def import has_loops
from agent.runtimes.tensorflow.models import import_tensorflow, read_savedmodel

OPTIONS: Mapping[str, Tuple[str, ...]] = {
    "quantisation": ("full", "dynamic_range"),
    "per_channel": ("on", "off"),
    "quantised_io": ("float32", "int8", "uint8"),
}


class TfliteQuantize(PortedConverter):
    name = "tflite_quantize"
    edges = (Edge("tflite_quantize", ("savedmodel", "fp32"), ("tflite", "int8")),)
    needs_calibration = True
    modules = ("tensorflow",)
    keeps = ("layout", "names")
    options = OPTIONS

    def configure(self, job: ConvertJob) -> None:
        super().configure(job)
        self.needs_calibration = self._options["quantisation"] == "full"

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        tf = import_tensorflow()
        options = self._options
        artifact = folder / "model.tflite"
        loops = has_loops(read_savedmodel(source).graph_def)

        def set_up(converter: Any, inputs: Sequence[TensorSpec]) -> None:
            full = options["quantisation"] == "full"
            if full and loops:
                tflite_conversion.refuse_loops(self.name, converter, folder)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter._experimental_disable_per_channel = options["per_channel"] == "off"
            if not full:
                return
            feeds = feeds_for(inputs, self._ports, calibration.feeds)

            def representative() -> Iterator[Dict[str, Any]]:
                yield from feeds

            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            kind = getattr(tf, options["quantised_io"])
            converter.inference_input_type = converter.inference_output_type = kind

        graph = tflite_conversion.convert(self.name, source, artifact, self._ports, "int8", set_up)
        inputs, outputs = tflite_conversion.ports_of(graph, self._ports)
        step = self._step(str(tf.__version__), calibration.origin)
        step += ", " + tflite_share(graph, "int8").words()
        return ConvertedArtifact(artifact, step, inputs, outputs)

    def _step(self, version: str, origin: str) -> str:
        options = self._options
        weights = "per channel" if options["per_channel"] == "on" else "per tensor"
        if options["quantisation"] == "dynamic_range":
            return "%s %s, dynamic range, weights %s" % (self.name, version, weights)
        return "%s %s, full integer, weights %s, inputs and outputs %s, %s" % (
            self.name,
            version,
            weights,
            options["quantised_io"],
            origin,
        )


CONVERTER = TfliteQuantize
