"""Reads an ONNX file's main graph as a ``NetworkGraph``, with shapes inferred by onnx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.domain.network_graph import Attribute, GraphNode, GraphTensor, NetworkGraph
from orchestrator.inspection.child import (
    onnx_chance,
    onnx_order,
    onnx_precision,
    onnx_shapes,
    onnx_weights,
)
from orchestrator.inspection.child.onnx_precision import StoredPrecision

OWN = ("", "ai.onnx")


class OnnxNetwork(NamedTuple):
    """A file's graph, the precision that it is stored in, and for each output that depends on
    random numbers the operators that draw them."""

    graph: NetworkGraph
    stored: StoredPrecision
    random: dict[str, str]


def read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> NetworkGraph:
    """The graph of a registered (and so already checked) file; ``shapes`` are those of its
    inputs."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    onnx_order.sort_model(model)
    return of_model(model, shapes)


def of_model(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> NetworkGraph:
    """The same for a loaded model, which is not modified."""
    return network_of(model, shapes).graph


def network_of(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> OnnxNetwork:
    """The same with the precision that it is stored in."""

    light = prepared(model, shapes)
    graph = light.graph
    held = onnx_weights.stored(model.graph)
    tensors = {
        key: GraphTensor(
            key, _dtype(kind.tensor_type.elem_type), onnx_shapes.shape(kind), key in held
        )
        for key, kind in onnx_shapes.infer(light).items()
    }
    shapes_of = {key: tensor.fixed for key, tensor in tensors.items()}
    constants = onnx_weights.ConstantGraph(
        graph.node, held, {key: shape for key, shape in shapes_of.items() if shape is not None}
    )
    weights = constants.weights()
    types = [tensors[v.name].dtype for v in (*model.graph.input, *model.graph.output)]
    opset = next((o.version for o in model.opset_import if o.domain in OWN), 0)
    network = NetworkGraph(
        format="onnx",
        origin=f"ONNX opset {opset}",
        nodes=tuple(_node(node, set(tensors)) for node in graph.node),
        inputs=tuple(i.name for i in model.graph.input if i.name not in held),
        outputs=tuple(o.name for o in model.graph.output),
        tensors=tensors,
        weights=frozenset(weights),
        elements={key: weight.elements for key, weight in weights.items()},
    )
    return OnnxNetwork(
        network,
        onnx_precision.read(constants, weights, types),
        onnx_chance.of_outputs(graph.node, network.outputs, _true(graph)),
    )


def _true(graph: Any) -> set[str]:
    """The names of boolean constants that are true."""
    import onnx

    values = [(i.name, i) for i in graph.initializer]
    values += [
        (node.output[0], attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return {
        name
        for name, value in values
        if value.data_type == onnx.TensorProto.BOOL
        and not value.dims
        and onnx.numpy_helper.to_array(value)
    }


def prepared(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """A copy without large weights, with fixed inputs and with its functions inlined."""
    import onnx.inliner

    light = without_weights(model)
    _fix(light.graph, shapes)
    if light.functions:
        # onnx raises many kinds; functions that cannot be inlined are reported as unknown
        with suppress(Exception):
            light = onnx.inliner.inline_local_functions(light)
    return light


def without_weights(model: Any) -> Any:
    """A copy with declared inputs in place of large weights, because inference copies the model."""
    import onnx

    light = onnx.ModelProto()
    for name in ("ir_version", "producer_name"):
        setattr(light, name, getattr(model, name))
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph, source = light.graph, model.graph
    graph.name = source.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, field).extend(getattr(source, field))
    declared = {i.name for i in source.input}
    for weight in source.initializer:
        if prod(weight.dims) <= onnx_shapes.SHORT:
            graph.initializer.append(weight)
        elif weight.name not in declared:
            graph.input.append(
                onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            )
    return light


def _fix(graph: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Set the registered input shapes, and drop inferred shapes of the file that have free
    sizes."""
    import onnx

    for value in graph.input:
        if value.name in shapes:
            fixed = onnx.helper.make_tensor_type_proto(
                value.type.tensor_type.elem_type, shapes[value.name]
            )
            value.type.CopyFrom(fixed)
    complete = [v for v in graph.value_info if all(d.HasField("dim_value") for d in _dims(v))]
    del graph.value_info[:]
    graph.value_info.extend(complete)
    for value in graph.output:
        for dim in _dims(value):
            dim.ClearField("dim_param")


def _dims(value: Any) -> Any:
    return value.type.tensor_type.shape.dim


def _dtype(code: int) -> str:
    import onnx

    name = str(onnx.TensorProto.DataType.Name(code)).lower() if code else ""
    return {"float": "float32", "double": "float64"}.get(name, name)


def _node(node: Any, outside: set[str]) -> GraphNode:
    attributes: dict[str, Attribute] = {}
    captured: dict[str, None] = {}
    bodies: list[str] = []
    for attribute in node.attribute:
        found = _attribute(attribute)
        if found is not None:
            attributes[attribute.name] = found
        for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            bodies += [inner.op_type for inner in _inside(body)]
            captured |= {n: None for inner in _inside(body) for n in inner.input if n in outside}
    return GraphNode(
        operator=node.op_type,
        name=node.name,
        inputs=(*node.input, *(n for n in captured if n not in node.input)),
        outputs=tuple(node.output),
        attributes=attributes,
        domain="" if node.domain in OWN else node.domain,
        bodies=tuple(bodies),
    )


def _inside(graph: Any) -> Iterator[Any]:
    """The operators of a body, and of bodies within it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _inside(body)


def _attribute(attribute: Any) -> Attribute | None:
    import onnx

    kinds = onnx.AttributeProto
    match attribute.type:
        case kinds.INT:
            return int(attribute.i)
        case kinds.FLOAT:
            return float(attribute.f)
        case kinds.STRING:
            return str(attribute.s.decode("utf-8", "replace"))
        case kinds.INTS:
            return tuple(attribute.ints)
        case _:
            return None
