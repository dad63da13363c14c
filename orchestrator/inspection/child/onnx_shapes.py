"""Shapes of all tensors of an ONNX graph whose inputs are fixed.

onnx infers most by itself. What exporters compute from shapes at run time (Shape, Gather, Concat,
Reshape) it follows only in part, so the graph is walked once more: small integer values are
computed with onnx's own reference operators, and given to onnx's inference of the next operator.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from orchestrator.domain.network_graph import UNKNOWN

SHORT = 1024
"""Values with up to so many elements may be shapes, and are computed."""
FOLDED = frozenset(
    [
        "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand",
        "Floor", "Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not",
        "Or", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice",
        "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
    ]
)  # fmt: skip
"""Operators whose small results are computed."""


def infer(model: Any) -> dict[str, Any]:
    """The type of every tensor, with its shape as far as it can be inferred."""
    import onnx
    import onnx.shape_inference

    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  onnx raises many kinds; the file's own types remain
        inferred = model
    graph = inferred.graph
    types = {v.name: v.type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {
        i.name: onnx.helper.make_tensor_type_proto(i.data_type, i.dims) for i in graph.initializer
    }
    values = {i.name: i for i in graph.initializer if prod(i.dims) <= SHORT}
    for node in graph.node:
        _follow(inferred, node, types, values)
    return types


def _follow(model: Any, node: Any, types: dict[str, Any], values: dict[str, Any]) -> None:
    """Infer a node's types, and compute its value if it is short and its inputs are known."""
    import onnx

    if not all(fixed(types.get(name)) for name in node.output if name):
        found = _types(model, node, types, values)
        types |= {key: kind for key, kind in found.items() if not fixed(types.get(key))}
    if len(node.output) != 1 or not fixed(types.get(node.output[0])):
        return
    if prod(shape(types[node.output[0]]) or ()) > SHORT:
        return
    name = node.output[0]
    if node.op_type == "Shape" and fixed(types.get(node.input[0])):
        limits = {a.name: a.i for a in node.attribute}
        whole = shape(types[node.input[0]]) or ()
        part = np.array(whole[limits.get("start") : limits.get("end")], np.int64)
        values[name] = onnx.numpy_helper.from_array(part, name)
    elif node.op_type == "Constant" and node.attribute[0].name == "value":
        values[name] = node.attribute[0].t
    elif node.op_type == "Constant" or (
        node.op_type in FOLDED and all(key in values for key in node.input if key)
    ):
        value = _value(model, node, values)
        if value is not None:
            values[name] = value


def _types(model: Any, node: Any, types: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    import onnx
    import onnx.shape_inference

    version = next((o.version for o in model.opset_import if o.domain == node.domain), 0)
    inputs = {name: types[name] for name in node.input if name in types}
    try:
        made = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, version, node.domain),
            node,
            inputs,
            {name: values[name] for name in node.input if name in values},
            opset_imports=list(model.opset_import),
            ir_version=model.ir_version,
        )
    except Exception:  # noqa: BLE001  onnx raises many kinds; nothing more is known then
        return {}
    return {name: kind for name, kind in made.items() if name}


def _value(model: Any, node: Any, values: dict[str, Any]) -> Any:
    """The node's value as a tensor; ``None`` if it cannot be computed."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    empty = onnx.helper.make_empty_tensor_value_info
    inputs = {key: _named(values[key], key) for key in node.input if key}
    graph = onnx.helper.make_graph(
        [node], "one", [], [empty(node.output[0])], initializer=list(inputs.values())
    )
    alone = onnx.helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version
    )
    try:
        found = ReferenceEvaluator(alone).run(None, {})[0]
        return onnx.numpy_helper.from_array(found, node.output[0])
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  onnx raises many kinds; nothing more is known then
        return None


def _named(value: Any, name: str) -> Any:
    import onnx

    named = onnx.TensorProto()
    named.CopyFrom(value)
    named.name = name
    return named


def shape(kind: Any) -> tuple[int, ...] | None:
    """The shape in a tensor's type, in the form of ``network_graph.GraphTensor.shape``."""
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else UNKNOWN for d in tensor.shape.dim)


def fixed(kind: Any) -> bool:
    found = None if kind is None else shape(kind)
    return found is not None and UNKNOWN not in found
