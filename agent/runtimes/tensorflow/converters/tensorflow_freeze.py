"""SavedModel to a frozen graph: one file whose variables are constants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence, Tuple

from agent.contract.conversion_graph import Edge
from agent.contract.trial import TensorSpec
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow.conversion import PortedConverter, failure, ordered
from agent.runtimes.tensorflow.models import import_on_cpu, open_model, plain


class TensorFlowFreeze(PortedConverter):
    name = "tensorflow_freeze"
    edges = (Edge("tensorflow_freeze", ("savedmodel", "fp32"), ("frozen_pb", "fp32")),)
    modules = ("tensorflow",)
    keeps = ("layout",)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        tf = import_on_cpu()
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        artifact = folder / "model.pb"
        try:
            opened = open_model(source, self._ports.fixed)
            # Loops stay functions: other tools cannot read the switches of TensorFlow 1.
            frozen = convert_variables_to_constants_v2(opened.function, lower_control_flow=False)
            outputs = [tensor.op.name for tensor in frozen.outputs]
            # Inlining functions leaves nodes behind on which nothing depends.
            graph_def = tf.compat.v1.graph_util.extract_sub_graph(
                frozen.graph.as_graph_def(),
                outputs + [tensor.op.name for tensor in frozen.inputs],
            )
            artifact.write_bytes(graph_def.SerializeToString())
        except Exception as error:  # TensorFlow passes on what its passes raise
            raise failure(self.name, error) from error
        return ConvertedArtifact(
            artifact,
            "%s %s" % (self.name, tf.__version__),
            _renamed(opened.inputs, opened.function.inputs, self._ports.inputs),
            _renamed(opened.outputs, frozen.outputs, self._ports.outputs),
        )


def _renamed(
    specs: Sequence[TensorSpec], tensors: Sequence[Any], order: Sequence[TensorSpec]
) -> Tuple[TensorSpec, ...]:
    """``specs`` in the source's order, with the names of the graph's ``tensors``."""
    pairs = zip(specs, tensors)  # noqa: B905 - strict= is newer than 3.8
    names = {spec.name: plain(tensor.name) for spec, tensor in pairs}
    return tuple(replace(spec, name=names[spec.name]) for spec in ordered(specs, order))


CONVERTER = TensorFlowFreeze
