"""Reads the facts of an ONNX file, and refuses other files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.contract.trial import TensorSpec
from agent.formats.layouts import ORDER, Step, input_layout, output_layout
from orchestrator.domain import flops
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import OnnxFacts, counted
from orchestrator.inspection.child import onnx_check, onnx_graph, onnx_values
from orchestrator.inspection.child.onnx_precision import StoredPrecision

_SPATIAL = frozenset(
    [
        "Conv",
        "ConvInteger",
        "QLinearConv",
        "ConvTranspose",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "BatchNormalization",
        "InstanceNormalization",
        "LRN",
        "DepthToSpace",
        "SpaceToDepth",
    ]
)
_KEEPS_AXES = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Relu",
        "LeakyRelu",
        "Clip",
        "Sigmoid",
        "Tanh",
        "Cast",
        "Pad",
        "Identity",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
)


def onnx_model(path: Path, name: str, shapes: Mapping[str, Sequence[int]]) -> OnnxFacts:
    """Check an ONNX file and fix the shapes of its inputs.

    Args:
        path: the file.
        name: its name in messages.
        shapes: input name → shape, for inputs with free shapes.

    Raises:
        UserError: not an ONNX model, or an input's shape is free and not given.
    """
    import onnx

    model = onnx_check.load(path, name)
    graph = model.graph
    declared = _declared(graph, name)
    unknown = sorted(set(shapes) - set(declared))
    if unknown:
        raise UserError(f"{name}: no input {unknown[0]!r}; it has {', '.join(declared)}")
    layouts = _layouts(graph, declared)
    fixed = (_input(name, value, shapes.get(key)) for key, value in declared.items())
    inputs = tuple(
        replace(spec, layout=layouts.get(spec.name, "")) if len(spec.shape) == 4 else spec
        for spec in fixed
    )
    fixed_shapes = {spec.name: tuple(spec.shape) for spec in inputs}
    opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    kinds = Counter(node.op_type for node in graph.node)
    network, stored, random = onnx_graph.network_of(model, fixed_shapes)
    return OnnxFacts(
        inputs=inputs,
        free_batch=_free_batch(declared, inputs),
        layouts=layouts,
        opset=opsets,
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        parameters=network.parameters,
        precision=stored.precision,
        stored=stored.described,
        random=random,
        operators=dict(sorted(kinds.items())),
        work=counted(flops.count(network)),
        onnx=onnx.__version__,
        values=onnx_values.of_model(model, fixed_shapes),
    )


def onnx_layouts(path: Path, name: str) -> dict[str, str]:
    """The layouts of an ONNX file's inputs and outputs, if known. Raises ``UserError``: not an ONNX
    model."""
    graph = onnx_check.load(path, name).graph
    return _layouts(graph, _declared(graph, name))


def onnx_precision(path: Path, name: str) -> StoredPrecision:
    """The precision that an ONNX file is stored in. Raises ``UserError``: not an ONNX model."""
    return onnx_graph.network_of(onnx_check.load(path, name), {}).stored


def _declared(graph: Any, name: str) -> dict[str, Any]:
    weights = {initializer.name for initializer in graph.initializer}
    declared = {i.name: i for i in graph.input if i.name not in weights}
    for found, lacks, why in (
        (graph.node, "operators", "there is nothing to measure"),
        (declared, "inputs", "its outputs are constants"),
        (graph.output, "outputs", "there is nothing to compare"),
    ):
        if not found:
            raise UserError(f"{name}: the ONNX graph has no {lacks}: {why}")
    for kind, values in (("input", graph.input), ("output", graph.output)):
        twice = [v for v, count in Counter(value.name for value in values).items() if count > 1]
        if twice:
            raise UserError(f"{name}: the ONNX graph has the {kind} {twice[0]!r} twice")
    return declared


def _layouts(graph: Any, declared: Mapping[str, Any]) -> dict[str, str]:
    makers = {output: node for node in graph.node for output in node.output}
    found = {name: input_layout(name, partial(_takers, graph)) for name in declared}
    found |= {o.name: output_layout(o.name, partial(_makers, makers)) for o in graph.output}
    return {name: layout for name, layout in found.items() if layout}


def _input(name: str, value: Any, given: Sequence[int] | None) -> TensorSpec:
    from onnx import helper

    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") is None:
        raise UserError(f"{name}: input {value.name!r} declares no type; runtimes need one")
    if not value.type.HasField("tensor_type"):
        raise UserError(f"{name}: input {value.name!r} is not a tensor; only tensors are accepted")
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if dtype == "object":
        raise UserError(f"{name}: input {value.name!r} holds texts; only numbers are accepted")
    if not tensor.HasField("shape"):
        declared: list[int] | None = None
    else:
        declared = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    if given is None:
        if declared is None or any(d < 0 for d in declared):
            raise UserError(_free_shape(name, value.name, tensor if declared is not None else None))
        return TensorSpec(value.name, dtype, tuple(declared))
    _check_given(name, value.name, declared, given)
    return TensorSpec(value.name, dtype, tuple(given))


def _takers(graph: Any, tensor: str) -> Iterator[Step]:
    """ONNX defines spatial operators on NCHW alone. Only a transposition to NCHW is followed."""
    for node in graph.node:
        if tensor not in node.input:
            continue
        if node.op_type in _SPATIAL and node.input[0] == tensor:
            yield Step("NCHW")
        elif node.op_type in _KEEPS_AXES:
            yield Step(tensor=node.output[0])
        elif node.op_type == "Transpose" and _permutation(node) == ORDER["NHWC", "NCHW"]:
            yield Step(tensor=node.output[0], order=ORDER["NHWC", "NCHW"])


def _makers(makers: Mapping[str, Any], tensor: str) -> Iterator[Step]:
    """The same against the direction; only a transposition to NHWC is followed."""
    node = makers.get(tensor)
    if node is None:
        return
    # of an operator on two tensors the one that is computed: the other may be a constant
    source = next((i for i in node.input if i in makers), None)
    if node.op_type in _SPATIAL:
        yield Step("NCHW")
    elif source is None:
        return
    elif node.op_type in _KEEPS_AXES:
        yield Step(tensor=source)
    elif node.op_type == "Transpose" and _permutation(node) == ORDER["NCHW", "NHWC"]:
        yield Step(tensor=source, order=ORDER["NCHW", "NHWC"])


def _permutation(node: Any) -> tuple[int, ...]:
    return next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())


def _free_shape(name: str, input_name: str, tensor: Any) -> str:
    if tensor is None:
        return (
            f"{name}: input {input_name!r} has no shape; give one: --shape {input_name}=1,3,224,224"
        )
    dims = [
        d.dim_param or (str(d.dim_value) if d.HasField("dim_value") and d.dim_value >= 0 else "?")
        for d in tensor.shape.dim
    ]
    example = ",".join(d if d.isdigit() else "1" for d in dims)
    return (
        f"{name}: input {input_name!r} has the free shape [{', '.join(dims)}]; "
        f"give every dimension a size: --shape {input_name}={example}"
    )


def _check_given(
    name: str, input_name: str, declared: list[int] | None, given: Sequence[int]
) -> None:
    shape = ",".join(str(d) for d in given)
    if any(d < 0 for d in given):
        raise UserError(f"--shape {input_name}={shape}: no dimension may be below 0")
    if given and given[0] == 0 and (declared is None or declared[:1] == [-1]):
        raise UserError(
            f"--shape {input_name}={shape}: the first dimension must be 1 or more, a batch of 0 "
            "computes nothing"
        )
    if declared is None:
        return
    fits = len(declared) == len(given) and all(
        d < 0 or d == g for d, g in zip(declared, given, strict=True)
    )
    if not fits:
        wants = ", ".join("?" if d < 0 else str(d) for d in declared)
        raise UserError(f"--shape {input_name}={shape}: {name} declares [{wants}] there")


def _free_batch(declared: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> bool:
    leading = [value.type.tensor_type.shape.dim for value in declared.values()]
    free = all(
        dims and not (dims[0].HasField("dim_value") and dims[0].dim_value >= 0) for dims in leading
    )
    return free and all(spec.shape[0] == 1 for spec in inputs)
