"""Checks that a file is an ONNX model, as strictly as runtimes do and no more.

onnx's checker refuses some files that runtimes take: nodes that are not sorted, outputs (of the
graph or of a body) without type or shape, a graph without a name, an operator set that is used but
not imported. What the checker still refuses with these completed is not valid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.domain.errors import UserError
from orchestrator.inspection.child import onnx_graph, onnx_order

OWN = ("", "ai.onnx")


def load(path: Path, name: str) -> Any:
    """The model, its nodes sorted; at most two copies of it are held in memory.

    Raises:
        UserError: not an ONNX model, or its weights lie in another file.
    """
    import onnx

    if path.stat().st_size == 0:
        raise UserError(f"{name}: the file is empty; expected an ONNX model")
    data, wrong = path.read_bytes(), ""
    try:
        onnx.checker.check_model(data)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  the checker raises many kinds
        wrong = one_line(error)
    try:
        model = onnx.ModelProto.FromString(data)
    except MemoryError:
        raise
    except Exception as error:
        if not wrong:  # the checker could parse it, so protobuf's error means that memory ran out
            raise MemoryError from error
        model = onnx.ModelProto()
    del data
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise UserError(
            f"{name}: its weights lie in a second file; save it as one file "
            "(onnx.save(..., save_as_external_data=False))"
        )
    if wrong:
        _require_valid(model, name, wrong)
    return model


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _require_valid(model: Any, name: str, wrong: str) -> None:
    """Sort the model's nodes, and raise ``UserError`` where it is not valid even so.

    ``wrong``: what the checker said of the file as it is.
    """
    import onnx

    graph = model.graph
    if not (graph.node or graph.input or graph.output):
        raise UserError(f"{name}: not a valid ONNX model (truncated, or another format?): {wrong}")
    fault = onnx_order.sort_model(model)
    if fault:
        raise UserError(f"{name}: not a valid ONNX model: {fault}")
    light = onnx_graph.without_weights(model)
    _complete(light)
    try:
        onnx.checker.check_model(light)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  the checker raises many kinds
        raise UserError(f"{name}: not a valid ONNX model: {one_line(error)}") from None


def _complete(model: Any) -> None:
    """Complete what runtimes do without: names of graphs, types and shapes of outputs, imports of
    operator sets that are used."""
    graphs, domains = [model.graph], set()
    for graph in graphs:  # grows meanwhile
        graph.name = graph.name or "graph"
        del graph.value_info[:]
        for value in (*graph.input, *graph.output):
            kind = value.type
            if kind.WhichOneof("value") in (None, "tensor_type"):
                kind.tensor_type.elem_type = kind.tensor_type.elem_type or 1
                kind.tensor_type.shape.SetInParent()
        domains |= {node.domain for node in graph.node}
        graphs += list(onnx_order.bodies(graph.node))
    imported = {o.domain for o in model.opset_import}
    if model.opset_import:
        for domain in domains - imported - set(OWN):
            model.opset_import.add(domain=domain, version=1)
        model.ir_version = max(model.ir_version, 3) if model.ir_version else 0
