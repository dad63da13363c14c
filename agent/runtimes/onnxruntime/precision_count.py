"""How much of an ONNX file is in fp16 or int8, counted in the file that a converter wrote."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple

from agent.contract.precision_share import PrecisionShare
from agent.contract.trial import TensorSpec

_FLOAT, _HALF, _DOUBLE, _BFLOAT = 1, 10, 11, 16  # TensorProto.DataType
_REAL = (_FLOAT, _HALF, _DOUBLE, _BFLOAT)
_INTEGERS = (2, 3, 21, 22)  # UINT8, INT8, UINT4, INT4
_CHANGES_TYPE = frozenset(["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"])
_NO_WORK = _CHANGES_TYPE | {"Constant", "ConstantOfShape", "Shape", "Size"}
_ON_INTEGERS = frozenset(["MatMulInteger", "ConvInteger", "QGemm", "QAttention", "QEmbed"])
_WITH_PARAMETERS = frozenset(["Resize", "Upsample", "Clip", "Pad", "Range", "Dropout"])
"""Operators whose inputs after the first are settings, no weights."""
_FUSED = frozenset(["Relu", "Clip"])
"""Activations that ONNX Runtime merges into a quantised operator before them."""


class _Graph(NamedTuple):
    """A graph or a body, with what is known of its tensors, those of outer graphs included."""

    nodes: Sequence[Any]
    weights: Dict[str, Any]
    types: Dict[str, int]
    shapes: Dict[str, Tuple[int, ...]]
    outputs: Sequence[str]


def prod(sizes: Iterable[int]) -> int:
    """``math.prod`` as a whole number."""
    found = 1
    for size in sizes:
        found *= int(size)
    return found


def onnx_share(model: Any, precision: str, inputs: Sequence[TensorSpec] = ()) -> PrecisionShare:
    """Count in ``model`` (``onnx.ModelProto``). ``inputs``: shapes for the multiply-accumulates; an
    operator with a free dimension is left out of that count."""
    operators, macs, weights = [0, 0], [0, 0], [0, 0]
    for graph in _graphs(_inferred(model, inputs)):
        changed = _int8_nodes(graph) if precision == "int8" else _half_nodes(graph)
        for number, node in enumerate(graph.nodes):
            if node.op_type in _NO_WORK or _bodies(node) or not _on_reals(graph, node):
                continue
            work = _macs(graph, node)
            operators[1] += 1
            macs[1] += work
            if number in changed:
                operators[0] += 1
                macs[0] += work
        for size, is_changed in _weights(graph, precision):
            weights[1] += size
            weights[0] += size if is_changed else 0
    return PrecisionShare(
        precision,
        (operators[0], operators[1]),
        (weights[0], weights[1]),
        (macs[0], macs[1]),
    )


def is_quantised(model: Any) -> bool:
    """Whether the file holds quantised operators or weights already."""
    return any(
        node.op_type in ("QuantizeLinear", "DequantizeLinear") or _integer_operator(node.op_type)
        for graph in _bare_graphs(model.graph)
        for node in graph.node
    )


def real_types(model: Any) -> Set[str]:
    """The types of the file's real weights, and of its inputs: ``float32``, ``float16`` …"""
    names = {_FLOAT: "float32", _HALF: "float16", _DOUBLE: "float64", _BFLOAT: "bfloat16"}
    kinds = {value.type.tensor_type.elem_type for value in model.graph.input}
    for graph in _bare_graphs(model.graph):
        kinds |= {tensor.data_type for tensor in graph.initializer}
    return {names[kind] for kind in kinds if kind in names}


def operator_types(model: Any) -> Set[str]:
    """The types of all operators, those of bodies included."""
    return {node.op_type for graph in _bare_graphs(model.graph) for node in graph.node}


def made_of_others(types: Set[str]) -> Set[str]:
    """The operators that ONNX defines as functions of others: a runtime without a kernel for one
    runs those, and names them in its errors."""
    from onnx import defs

    return {name for name in types if defs.has(name) and defs.get_schema(name).has_function}


def with_bodies(model: Any) -> List[str]:
    """The types of operators with bodies of their own: ``If``, ``Loop``, ``Scan``."""
    return sorted(
        {node.op_type for g in _bare_graphs(model.graph) for node in g.node if _bodies(node)}
    )


def _inferred(model: Any, inputs: Sequence[TensorSpec]) -> Any:
    """A copy with inferred shapes, in the given sizes of the inputs; as it is where it fails."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.ir_version = max(fixed.ir_version, 4)  # before, a weight that is no input has no shape
    sizes = {spec.name: spec.shape for spec in inputs}
    for value in fixed.graph.input:
        dims = value.type.tensor_type.shape.dim
        given = sizes.get(value.name, ())
        if len(dims) == len(given):
            for dim, size in zip(dims, given):  # noqa: B905 - strict= is newer than 3.8
                dim.Clear()
                dim.dim_value = size
    if inputs:  # what the source declared for free sizes would stand in the way
        for value in [*fixed.graph.output, *fixed.graph.value_info]:
            for dim in value.type.tensor_type.shape.dim:
                if dim.HasField("dim_param"):
                    dim.Clear()
    try:
        return onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except Exception:  # noqa: BLE001 - a count without shapes is better than none
        return fixed


def _bare_graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for body in _bodies(node):
            yield from _bare_graphs(body)


def _bodies(node: Any) -> List[Any]:
    found = [a.g for a in node.attribute if a.HasField("g")]
    return found + [body for a in node.attribute for body in a.graphs]


def _graphs(model: Any) -> Iterator[_Graph]:
    yield from _with_bodies(model.graph, {}, {}, {})


def _with_bodies(
    graph: Any,
    weights: Dict[str, Any],
    types: Dict[str, int],
    shapes: Dict[str, Tuple[int, ...]],
) -> Iterator[_Graph]:
    own = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    own[node.output[0]] = attribute.t
    types, shapes = dict(types), dict(shapes)
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape") and all(d.dim_value > 0 for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    for name, weight in own.items():
        types[name], shapes[name] = weight.data_type, tuple(weight.dims)
    yield _Graph(graph.node, own, types, shapes, [value.name for value in graph.output])
    for node in graph.node:
        for body in _bodies(node):
            yield from _with_bodies(body, {**weights, **own}, types, shapes)


def _integer_operator(name: str) -> bool:
    return name.startswith("QLinear") or name in _ON_INTEGERS


def _on_reals(graph: _Graph, node: Any) -> bool:
    """Whether the operator takes or gives real numbers, or integers in their place; where no type
    is known it does."""
    if _integer_operator(node.op_type):
        return True
    kinds = {graph.types.get(name, 0) for name in [*node.input, *node.output] if name}
    return bool(kinds & set(_REAL)) or kinds <= {0}


def _half_nodes(graph: _Graph) -> Set[int]:
    """The nodes all of whose real tensors are fp16."""
    found = set()
    for number, node in enumerate(graph.nodes):
        names = [name for name in [*node.input, *node.output] if name]
        kinds = {graph.types.get(name, 0) for name in names} & set(_REAL)
        if kinds == {_HALF}:
            found.add(number)
    return found


def _int8_nodes(graph: _Graph) -> Set[int]:
    """The nodes that compute on integers: their real inputs are all dequantised, or they are an
    activation between one of these and a quantisation."""
    dequantised = {n.output[0] for n in graph.nodes if n.op_type == "DequantizeLinear"}
    takers: Dict[str, List[str]] = {}
    for node in graph.nodes:
        for name in node.input:
            takers.setdefault(name, []).append(node.op_type)
    found: Set[int] = set()
    made_by: Set[str] = set()
    for number, node in enumerate(graph.nodes):
        if node.op_type in _NO_WORK:
            continue
        real = [name for name in node.input if name and graph.types.get(name, _FLOAT) in _REAL]
        # Constants are parameters of the operator: bounds of a Clip, a scale of a Resize.
        data = [name for name in real if name not in graph.weights]
        whole = bool(data) and all(name in dequantised for name in data)
        large = any(prod(graph.weights[n].dims) > 1 for n in real if n in graph.weights)
        merged = (
            node.op_type in _FUSED
            and bool(node.input)
            and node.input[0] in made_by
            and set(takers.get(node.output[0], ())) == {"QuantizeLinear"}
        )
        if _integer_operator(node.op_type) or (whole and not large) or merged:
            found.add(number)
            made_by.update(node.output)
    return found


def _weights(graph: _Graph, precision: str) -> Iterator[Tuple[int, bool]]:
    """(elements, whether they are in ``precision``) of each weight."""
    helpers: Set[str] = set()  # scales and zero points
    integer: Set[str] = set()
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            helpers.update(node.input[1:])
            integer.update(node.input[:1])
        elif _integer_operator(node.op_type):
            for name in node.input:
                kind = graph.types.get(name, 0)
                (integer if kind in (*_INTEGERS, 6) else helpers).add(name)
        elif node.op_type in _WITH_PARAMETERS:
            helpers.update(node.input[1:])
    for name, tensor in graph.weights.items():
        size = prod(tensor.dims)
        if name in integer and tensor.data_type not in _REAL and name not in helpers:
            yield size, precision == "int8"
        elif tensor.data_type in _REAL and name not in helpers:
            yield size, precision == "fp16" and tensor.data_type == _HALF


def _macs(graph: _Graph, node: Any) -> int:
    """The operator's multiply-accumulates; 0 where it has none, or its shapes are not known."""
    inputs = [graph.shapes.get(name) for name in node.input]
    out = graph.shapes.get(node.output[0]) if node.output else None
    name = node.op_type
    at = 3 if name in ("QLinearConv", "QLinearMatMul") else 1
    weight = inputs[at] if len(inputs) > at else None
    if name in ("Conv", "QLinearConv", "ConvInteger") and out and weight:
        return prod(out) * prod(weight[1:])
    if name == "ConvTranspose" and inputs[0] and weight:
        return prod(inputs[0]) * prod(weight[1:])
    if name in ("MatMul", "Gemm", "QLinearMatMul", "MatMulInteger") and out and inputs[0]:
        across = any(a.name == "transA" and a.i for a in node.attribute)
        return prod(out) * inputs[0][0 if across else -1]
    if name in ("LSTM", "GRU", "RNN") and inputs[0] and weight and len(inputs) > 2 and inputs[2]:
        steps = inputs[0][0] * inputs[0][1]
        return steps * (prod(weight) + prod(inputs[2]))
    return 0
