"""SavedModel to a SavedModel with TensorRT engines (TF-TRT), which TensorFlow had up to 2.17.

Written against TensorFlow 2.17's ``trt_convert``; not yet run on hardware.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Dict, Iterator

from agent.contract.child_jobs import ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.failures import RuntimeMissing
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow.conversion import (
    PortedConverter,
    failure,
    feeds_for,
    fixed_savedmodel,
    signature_specs,
)
from agent.runtimes.tensorflow.models import import_tensorflow

_MODULE = "tensorflow.python.compiler.tensorrt"


def missing() -> str:
    """Why this TensorFlow cannot use TensorRT; empty where it can."""
    tf = import_tensorflow()
    if importlib.util.find_spec(_MODULE) is None:
        return "tensorflow %s has no TF-TRT, which ended with 2.17" % tf.__version__
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    if not _pywrap_py_utils.is_tensorrt_enabled():
        return "tensorflow %s is built without TensorRT" % tf.__version__
    if not any(_pywrap_py_utils.get_loaded_tensorrt_version()):
        return "TensorRT's libraries are not here"
    return ""


class TfTrtConvert(PortedConverter):
    name = "tftrt_convert"
    edges = tuple(
        Edge("tftrt_convert", ("savedmodel", "fp32"), ("savedmodel", precision))
        for precision in ("fp32", "fp16", "int8")
    )
    modules = ("tensorflow", "tensorrt")
    keeps = ("layout", "names")
    where = ("device",)

    def __init__(self) -> None:
        super().__init__()
        self._precision = "fp32"

    def configure(self, job: ConvertJob) -> None:
        super().configure(job)
        self._precision = job.runtime.precision
        self.needs_calibration = self._precision == "int8"

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:
        reason = missing()
        if reason:
            raise RuntimeMissing(reason, "install TensorFlow 2.17 or older and its TensorRT")
        tf = import_tensorflow()
        from tensorflow.python.compiler.tensorrt import trt_convert

        artifact = folder / "savedmodel"
        try:
            fixed = fixed_savedmodel(source, self._ports.fixed)
            inputs, _ = signature_specs(fixed)
            feeds = feeds_for(inputs, self._ports, calibration.feeds)
            converter = trt_convert.TrtGraphConverterV2(
                input_saved_model_dir=str(fixed),
                precision_mode=self._precision.upper(),
                use_calibration=self._precision == "int8",
            )

            def samples() -> Iterator[Dict[str, Any]]:
                yield from feeds

            converter.convert(calibration_input_fn=samples if feeds else None)
            converter.save(str(artifact))
        except Exception as error:  # TensorFlow passes on what its passes raise
            raise failure(self.name, error) from error
        step = "%s, tensorflow %s, %s%s" % (
            self.name,
            tf.__version__,
            self._precision,
            ", " + calibration.origin if feeds else "",
        )
        return ConvertedArtifact(artifact, step)


CONVERTER = TfTrtConvert
