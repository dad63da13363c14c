"""Keras files to ONNX by Keras' ``export``; the other path leads through a SavedModel."""

from __future__ import annotations

import logging
from pathlib import Path

from agent.contract.conversion_graph import Edge
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow import onnx_export
from agent.runtimes.tensorflow.conversion import PortedConverter, failure
from agent.runtimes.tensorflow.models import import_on_cpu, open_model, signature_of


class KerasOnnx(PortedConverter):
    name = "keras_onnx"
    # Costs more than the path through a SavedModel (2), whose errors say more.
    edges = tuple(
        Edge("keras_onnx", (source, "fp32"), ("onnx", "fp32"), 2.5) for source in ("keras", "h5")
    )
    modules = ("keras", "tensorflow", "tf2onnx", "onnx")
    keeps = ("layout",)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        import_on_cpu()
        import keras
        import onnx
        import tf2onnx

        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        artifact = folder / "model.onnx"
        try:
            opened = open_model(source, self._ports.fixed)
            model = opened.keep[1]
            model.model.export(
                str(artifact),
                format="onnx",
                input_signature=[model.packed(signature_of(opened.inputs))],
                verbose=False,
                opset_version=onnx_export.OPSET,
            )
            made = onnx.load(str(artifact))
            onnx_export.save(made, artifact, self.name)
        except Exception as error:  # Keras, tf2onnx and onnx each raise their own
            raise failure(self.name, error) from error
        return ConvertedArtifact(
            artifact,
            "%s %s, tf2onnx %s, opset %d"
            % (self.name, keras.__version__, tf2onnx.__version__, onnx_export.OPSET),
            onnx_export.renamed(opened.inputs, opened.inputs, made.graph.input),
            onnx_export.renamed(opened.outputs, opened.outputs, made.graph.output),
        )


CONVERTER = KerasOnnx
