"""SavedModels, TensorFlow graphs and TFLite files to ONNX by tf2onnx."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Sequence, Tuple

from agent.contract.conversion_graph import Edge
from agent.contract.trial import TensorSpec
from agent.formats.tflite import read_model
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow import onnx_export
from agent.runtimes.tensorflow.conversion import PortedConverter, failure, ordered
from agent.runtimes.tensorflow.models import (
    endpoint_specs,
    endpoints,
    import_on_cpu,
    open_model,
    read_graph,
    signature_of,
)
from agent.runtimes.tensorflow.tflite_conversion import specs_of

Export = Tuple[Any, Sequence[TensorSpec], Sequence[TensorSpec]]
"""The ONNX model, and the source's inputs and outputs in the ONNX model's order."""


class Tf2Onnx(PortedConverter):
    name = "tf2onnx"
    edges = (
        *(
            Edge("tf2onnx", (source, "fp32"), ("onnx", "fp32"))
            for source in ("savedmodel", "frozen_pb", "optimised_pb", "tflite")
        ),
        Edge("tf2onnx", ("tflite", "int8"), ("onnx", "int8")),
    )
    modules = ("tf2onnx", "tensorflow", "onnx")
    keeps = ("layout",)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"  # else tf2onnx logs errors and goes on
        tf = import_on_cpu()
        import tf2onnx

        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        artifact = folder / "model.onnx"
        makers = {".pb": self._from_graph, ".tflite": _from_tflite}
        make = makers.get(source.suffix, self._from_savedmodel)
        try:
            model, inputs, outputs = make(source)
            onnx_export.save(model, artifact, self.name)
        except Exception as error:  # tf2onnx, TensorFlow and onnx each raise their own
            raise failure(self.name, error) from error
        return ConvertedArtifact(
            artifact,
            "%s %s, tensorflow %s, opset %d"
            % (self.name, tf2onnx.__version__, tf.__version__, onnx_export.OPSET),
            onnx_export.renamed(ordered(inputs, self._ports.inputs), inputs, model.graph.input),
            onnx_export.renamed(ordered(outputs, self._ports.outputs), outputs, model.graph.output),
        )

    def _from_savedmodel(self, source: Path) -> Export:
        import tf2onnx

        opened = open_model(source, self._ports.fixed)
        model, _ = tf2onnx.convert.from_function(
            opened.keep[0], input_signature=signature_of(opened.inputs), opset=onnx_export.OPSET
        )
        return model, opened.inputs, opened.outputs

    def _from_graph(self, source: Path) -> Export:
        import tensorflow as tf
        import tf2onnx

        graph_def = read_graph(source)
        graph = tf.Graph()
        with graph.as_default():
            tf.compat.v1.import_graph_def(graph_def, name="")
        feeds, fetches = endpoints(graph, source.name)
        own, outputs = endpoint_specs(graph_def, feeds, fetches)
        inputs = self._ports.fixed(own)
        model, _ = tf2onnx.convert.from_graph_def(
            graph_def,
            input_names=[tensor.name for tensor in feeds],
            output_names=[tensor.name for tensor in fetches],
            shape_override={
                tensor.name: list(spec.shape)
                for tensor, spec in zip(feeds, inputs)  # noqa: B905
            },
            opset=onnx_export.OPSET,
        )
        return model, inputs, outputs


def _from_tflite(source: Path) -> Export:
    import tf2onnx

    graph = read_model(source)
    model, _ = tf2onnx.convert.from_tflite(str(source), opset=onnx_export.OPSET)
    return model, specs_of(graph, outputs=False), specs_of(graph, outputs=True)


CONVERTER = Tf2Onnx
