"""A frozen graph to an optimised one, by Grappler, TensorFlow's graph optimiser.

It runs only passes whose result other tools can read. Fusing operators into kernels of the present
processor is left to TensorFlow, which does it when it loads a graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from agent.contract.conversion_graph import Edge
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow.conversion import PortedConverter, failure, ordered
from agent.runtimes.tensorflow.models import (
    endpoint_specs,
    endpoints,
    import_on_cpu,
    read_graph,
)

PASSES = ("pruning", "function", "constfold", "shape", "arithmetic", "constfold", "dependency")
# Grappler's notes on shapes, which tf2onnx mistakes for attributes of the operators.
_NOTES = ("_input_shapes", "_output_shapes")


class TensorFlowOptimise(PortedConverter):
    name = "tensorflow_optimise"
    edges = (Edge("tensorflow_optimise", ("frozen_pb", "fp32"), ("optimised_pb", "fp32")),)
    modules = ("tensorflow",)
    keeps = ("dynamic_shapes", "layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        tf = import_on_cpu()
        artifact = folder / "model.pb"
        graph_def = read_graph(source)
        before = len(graph_def.node)
        graph = tf.Graph()
        try:
            with graph.as_default():
                tf.compat.v1.import_graph_def(graph_def, name="")
            feeds, fetches = endpoints(graph, source.name)
            optimised = _optimised(graph, [*feeds, *fetches])
            artifact.write_bytes(optimised.SerializeToString())
        except Exception as error:  # TensorFlow passes on what its passes raise
            raise failure(self.name, error) from error
        inputs, outputs = endpoint_specs(graph_def, feeds, fetches)
        return ConvertedArtifact(
            artifact,
            "%s %s, %d nodes of %d" % (self.name, tf.__version__, len(optimised.node), before),
            ordered(inputs, self._ports.inputs),
            ordered(outputs, self._ports.outputs),
        )


def _optimised(graph: Any, ports: Sequence[Any]) -> Any:
    """The graph's ``GraphDef`` after ``PASSES``; the tensors ``ports`` keep their names."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    meta = tf.compat.v1.train.export_meta_graph(graph=graph, graph_def=graph.as_graph_def())
    kept = meta_graph_pb2.CollectionDef()
    kept.node_list.value.extend(tensor.name for tensor in ports)
    meta.collection_def["train_op"].CopyFrom(kept)
    config = tf.compat.v1.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.optimizers.extend(PASSES)
    rewrites.min_graph_nodes = -1  # small graphs too
    found = tf_optimizer.OptimizeGraph(config, meta)
    for node in found.node:
        for note in _NOTES:
            if note in node.attr:
                del node.attr[note]
    return found


CONVERTER = TensorFlowOptimise
