"""SavedModel to TFLite in FP32 by TensorFlow's converter."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from agent.graph import Edge
from agent.jobs import ConvertJob
from agent.runner import tflite_converter
from agent.runner.backends.base import Options
from agent.runner.converters.base import Calibration, Made
from agent.runner.tensorflow_convert import Ports
from agent.runner.tensorflow_models import import_tensorflow


class TfliteConvert:
    name = "tflite_convert"
    edges = (Edge("tflite_convert", ("savedmodel", "fp32"), ("tflite", "fp32")),)
    needs_calibration = False
    modules = ("tensorflow",)
    commands = ()
    keeps = ("layout", "names")
    where = ("device", "builder")
    options: ClassVar[Options] = {}

    def __init__(self) -> None:
        self._ports = Ports()

    def configure(self, job: ConvertJob) -> None:
        self._ports = Ports(job)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> Made:  # noqa: ARG002
        version = import_tensorflow().__version__
        artifact = folder / "model.tflite"
        graph = tflite_converter.convert(
            self.name, source, artifact, self._ports, "fp32", lambda *_: None
        )
        inputs, outputs = tflite_converter.ports_of(graph, self._ports)
        return Made(artifact, "%s %s" % (self.name, version), inputs, outputs)


CONVERTER = TfliteConvert
