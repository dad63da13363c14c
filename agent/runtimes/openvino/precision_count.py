"""How much of an OpenVINO IR is in fp16 or int8, counted in the file that a converter wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

from agent.contract.precision_share import PrecisionShare
from agent.contract.trial import TensorSpec

_REAL = ("f16", "f32", "f64", "bf16")
_INTEGERS = ("i8", "u8", "i4", "u4")
_NO_WORK = frozenset(["Parameter", "Result", "Convert", "FakeQuantize"])
_MERGED = frozenset(["Add", "Subtract", "Multiply", "Relu", "Clamp", "PRelu"])
"""What OpenVINO merges into the quantised operator before it: bias, scale, activation."""
_MOVES = frozenset(
    [
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Split", "VariadicSplit"),
        *("Concat", "StridedSlice", "Slice", "Gather", "Tile", "Pad"),
        *("DepthToSpace", "SpaceToDepth"),
    ]
)
"""Operators whose results are values of their input: quantised where that is."""
_RECURRENT = {"LSTMSequence": 4, "GRUSequence": 3, "RNNSequence": 3}
"""Recurrent operators, and the place of the first of their two weights among the inputs."""


def ir_share(path: Path, precision: str, inputs: Sequence[TensorSpec] = ()) -> PrecisionShare:
    """Count in a saved network. ``inputs``: shapes for the multiply-accumulates. An operator is in
    fp16 where its weights are: what it computes in is up to the device."""
    import openvino

    model = openvino.Core().read_model(str(path))
    _fix(model, inputs)
    operators, macs = [0, 0], [0, 0]
    constant: Set[str] = set()
    changed: Set[str] = set()
    quantised: Set[str] = set()
    ordered = model.get_ordered_ops()
    for op in ordered:
        name, sources = op.get_friendly_name(), _sources(op)
        if op.get_type_name() in ("Constant", "ShapeOf") or (
            sources and all(source.get_friendly_name() in constant for source in sources)
        ):
            constant.add(name)
            continue
        if op.get_type_name() == "FakeQuantize":
            quantised.add(name)
        if op.get_type_name() in _NO_WORK or not _on_reals(op):
            continue
        data = [s for s in sources if s.get_friendly_name() not in constant]
        work = _macs(op)
        operators[1] += 1
        macs[1] += work
        if _is_changed(op, precision, data, changed, constant, quantised):
            changed.add(name)
            if op.get_type_name() in _MOVES:
                quantised.add(name)
            operators[0] += 1
            macs[0] += work
    weights = _weights(ordered, precision)
    return PrecisionShare(
        precision,
        (operators[0], operators[1]),
        (sum(size for size, is_in in weights if is_in), sum(size for size, _ in weights)),
        (macs[0], macs[1]),
    )


def _fix(model: Any, inputs: Sequence[TensorSpec]) -> None:
    sizes = {spec.name: list(spec.shape) for spec in inputs}
    try:
        known = {name: sizes[name] for port in model.inputs for name in port.names if name in sizes}
        if known and any(port.partial_shape.is_dynamic for port in model.inputs):
            model.reshape(known)
    except RuntimeError:  # then operators without a shape have no part in the count
        pass


def _sources(op: Any) -> List[Any]:
    return [value.get_node() for value in op.input_values()]


def _kind(output: Any) -> str:
    return str(output.get_element_type().get_type_name())


def _on_reals(op: Any) -> bool:
    ports = [*op.input_values(), *op.outputs()]
    return any(_kind(port) in _REAL for port in ports)


def _is_changed(
    op: Any,
    precision: str,
    data: Sequence[Any],
    changed: Set[str],
    constant: Set[str],
    quantised: Set[str],
) -> bool:
    """Whether the operator is in ``precision``: its weights are in fp16, or all its data and
    weights are quantised, or it is merged into one of these."""
    if precision == "fp16":
        weights = [s for s in _sources(op) if s.get_friendly_name() in constant]
        return any("f16" in _kinds_behind(weight) for weight in weights) or (
            all(_kind(output) == "f16" for output in op.outputs()) and bool(op.outputs())
        )
    real = [s.get_friendly_name() for s in data if _kind(s.output(0)) in _REAL]
    if not real:
        return False
    if all(name in quantised for name in real):
        return _quantised_weights(op, constant)
    return op.get_type_name() in _MERGED and len(real) == 1 and real[0] in changed


def _quantised_weights(op: Any, constant: Set[str]) -> bool:
    """Whether each weight, of an operator that has some, is made of integers or quantised."""
    first = _RECURRENT.get(op.get_type_name())
    sources = _sources(op)
    weights = sources[1:2] if first is None else sources[first : first + 2]
    for weight in weights:
        if weight.get_friendly_name() not in constant or _kind(weight.output(0)) not in _REAL:
            continue
        whole = weight.get_type_name() == "FakeQuantize" or _kinds_behind(weight) & set(_INTEGERS)
        if len(weight.output(0).get_partial_shape()) > 1 and not whole:
            return False
    return True


def _kinds_behind(node: Any) -> Set[str]:
    """The element types of the constants that a constant expression is made of."""
    if node.get_type_name() == "Constant":
        return {_kind(node.output(0))}
    return {kind for source in _sources(node) for kind in _kinds_behind(source)}


def _weights(ordered: Iterable[Any], precision: str) -> List[Tuple[int, bool]]:
    """(elements, whether they are in ``precision``) of each constant that is no scale, zero point
    or bound of a quantisation."""
    found: Dict[str, Tuple[int, bool]] = {}
    for op in ordered:
        if op.get_type_name() != "Constant":
            continue
        takers = [(port.get_node(), port.get_index()) for port in op.output(0).get_target_inputs()]
        kind = _kind(op.output(0))
        if kind not in _REAL + _INTEGERS or any(_is_helper(node, at) for node, at in takers):
            continue
        quantised = kind in _INTEGERS or any(
            node.get_type_name() == "FakeQuantize" and at == 0 for node, at in takers
        )
        is_in = quantised if precision == "int8" else kind == "f16"
        found[op.get_friendly_name()] = (_product(op.output(0).get_shape()), is_in)
    return list(found.values())


def _is_helper(node: Any, at: int) -> bool:
    """Whether a constant at this input of ``node`` belongs to a quantisation. Dequantising is
    ``(convert(weights) - zero point) * scale``."""
    name = node.get_type_name()
    if name == "FakeQuantize":
        return at > 0
    if name == "Convert":
        takers = list(node.output(0).get_target_inputs())
        return any(
            port.get_node().get_type_name() == "Subtract" and port.get_index() == 1
            for port in takers
        )
    if name in ("Multiply", "Subtract") and at == 1:
        before = _sources(node)[0]
        kinds = _kinds_behind(before) if _is_constant(before) else set()
        return bool(kinds & set(_INTEGERS))
    return False


def _is_constant(node: Any) -> bool:
    if node.get_type_name() == "Constant":
        return True
    sources = _sources(node)
    return bool(sources) and all(_is_constant(source) for source in sources)


def _product(sizes: Iterable[int]) -> int:
    found = 1
    for size in sizes:
        found *= int(size)
    return found


def _macs(op: Any) -> int:
    """The operator's multiply-accumulates; 0 where it has none, or its shapes are not known."""
    inputs = [value.get_partial_shape() for value in op.input_values()]
    out = op.output(0).get_partial_shape() if op.outputs() else None
    if out is None or out.is_dynamic or any(shape.is_dynamic for shape in inputs):
        return 0
    name = op.get_type_name()
    shapes = [[int(size) for size in shape.to_shape()] for shape in inputs]
    if name == "Convolution":
        return _product(out.to_shape()) * _product(shapes[1][1:])
    if name == "GroupConvolution":
        return _product(out.to_shape()) * _product(shapes[1][2:])
    if name == "ConvolutionBackpropData":
        return _product(shapes[0]) * _product(shapes[1][1:])
    if name == "MatMul" and shapes[0]:
        across = bool(op.get_attributes().get("transpose_a", False)) and len(shapes[0]) > 1
        return _product(out.to_shape()) * shapes[0][-2 if across else -1]
    recurrent = _RECURRENT.get(name)
    if recurrent is not None:
        steps = shapes[0][0] * shapes[0][1]
        return steps * (_product(shapes[recurrent]) + _product(shapes[recurrent + 1]))
    return 0
