"""SavedModels, TensorFlow graphs and TFLite files to ONNX by tf2onnx."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Sequence, Tuple

from agent.contract.conversion_graph import Edge
from agent.contract.failures import BadModel
from agent.contract.trial import TensorSpec
from agent.formats.tflite import NotTflite, read
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow import onnx_export
from agent.runtimes.tensorflow.conversion import Ported, failure, ordered
from agent.runtimes.tensorflow.graph_def import GraphLayouts
from agent.runtimes.tensorflow.models import (
    converting,
    endpoints,
    free_as_none,
    identifiers,
    open_model,
    plain,
    read_graph,
    spec_of,
)
from agent.runtimes.tensorflow.tflite_conversion import specs_of

Found = Tuple[Any, Sequence[TensorSpec], Sequence[TensorSpec]]
"""The ONNX model, and the source's inputs and outputs in the order in which the model has them."""


class Tf2Onnx(Ported):
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
        os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"  # it would log them and go on
        tf = converting()
        import tf2onnx

        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        artifact = folder / "model.onnx"
        make = self._from_graph if source.suffix == ".pb" else self._from_savedmodel
        try:
            found = _from_tflite(source) if source.suffix == ".tflite" else make(source)
            model, inputs, outputs = found
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

    def _from_savedmodel(self, source: Path) -> Found:
        import tensorflow as tf
        import tf2onnx

        opened = open_model(source, self._ports.fixed)
        signature = [
            tf.TensorSpec(free_as_none(spec.shape), spec.dtype, name)
            for name, spec in zip(identifiers(opened.inputs), opened.inputs)  # noqa: B905
        ]
        model, _ = tf2onnx.convert.from_function(
            opened.keep[0], input_signature=signature, opset=onnx_export.OPSET
        )
        return model, opened.inputs, opened.outputs

    def _from_graph(self, source: Path) -> Found:
        import tensorflow as tf
        import tf2onnx

        graph_def = read_graph(source)
        layouts = GraphLayouts(graph_def)
        graph = tf.Graph()
        with graph.as_default():
            tf.compat.v1.import_graph_def(graph_def, name="")
        feeds, fetches = endpoints(graph, source.name)
        inputs = [spec_of(plain(t.name), t, layouts.of_input(t.name)) for t in feeds]
        outputs = [spec_of(plain(t.name), t, layouts.of_output(t.name)) for t in fetches]
        inputs = self._ports.fixed(inputs)
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


def _from_tflite(source: Path) -> Found:
    import tf2onnx

    try:
        graph = read(source)
    except (NotTflite, FileNotFoundError) as error:
        raise BadModel("%s is not a TFLite model: %s" % (source.name, error)) from error
    model, _ = tf2onnx.convert.from_tflite(str(source), opset=onnx_export.OPSET)
    return model, specs_of(graph, outputs=False), specs_of(graph, outputs=True)


CONVERTER = Tf2Onnx
