"""Models that the benchmarks make for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def small_mlp(path: Path, width: int = 512, layers: int = 3) -> None:
    """An ONNX perceptron of about 50 µs on one core of a current processor."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.RandomState(0)
    nodes, weights, last = [], [], "input"
    for layer in range(layers):
        # He-scaled, so that no activation becomes a denormal number
        matrix = random.standard_normal((width, width)) * np.sqrt(2.0 / width)
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    shape = [1, width]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
