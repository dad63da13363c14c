"""How much of a quantised ``torch.export`` program is in int8, counted in its graph."""

from __future__ import annotations

from typing import Any, Iterable, Set

from agent.contract.precision_share import PrecisionShare

_INTEGERS = ("torch.int8", "torch.uint8")
_NO_WORK = ("getitem", "sym_size")


def int8_share(program: Any) -> PrecisionShare:
    """Operators between a dequantisation and the next quantisation, and weights behind one.

    ``program``: as PT2E quantisation leaves it, exported again.
    """
    nodes = list(program.graph_module.graph.nodes)
    tensors = {**program.state_dict, **program.constants}
    signature = program.graph_signature
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    named.update(signature.inputs_to_lifted_tensor_constants)
    weights = {n.name: tensors[named[n.name]] for n in nodes if named.get(n.name) in tensors}
    operators, macs, sizes = [0, 0], [0, 0], [0, 0]
    quantised: Set[str] = set()
    for node in nodes:
        if node.op != "call_function" or any(word in _name(node) for word in _NO_WORK):
            continue
        if "quantized_decomposed" in _name(node):
            if "dequantize" in _name(node):
                quantised.add(node.name)
            continue
        if not _is_real(node):
            continue
        data = [source for source in node.all_input_nodes if source.name not in weights]
        real = [source for source in data if _is_real(source)]
        whole = bool(real) and all(source.name in quantised for source in real)
        merged = len(real) == 1 and real[0].name in quantised and _is_activation(node)
        work = _macs(node)
        operators[1] += 1
        macs[1] += work
        if whole or merged:
            quantised.add(node.name) if _goes_on(node) else None
            operators[0] += 1
            macs[0] += work
    for name, tensor in weights.items():
        takers = [t for n in nodes if n.name == name for t in n.users]
        scales = any("quantized_decomposed" in _name(t) and t.args[0].name != name for t in takers)
        if scales or not hasattr(tensor, "numel"):
            continue
        is_int = str(tensor.dtype) in _INTEGERS or any("dequantize" in _name(t) for t in takers)
        if is_int or tensor.is_floating_point():
            sizes[1] += tensor.numel()
            sizes[0] += tensor.numel() if is_int else 0
    return PrecisionShare(
        "int8", (operators[0], operators[1]), (sizes[0], sizes[1]), (macs[0], macs[1])
    )


def _name(node: Any) -> str:
    return str(node.target)


def _is_real(node: Any) -> bool:
    value = node.meta.get("val")
    return hasattr(value, "is_floating_point") and bool(value.is_floating_point())


def _is_activation(node: Any) -> bool:
    return any(word in _name(node) for word in ("relu", "hardtanh", "clamp"))


def _goes_on(node: Any) -> bool:
    """Whether an activation after it is merged into it."""
    return any(_is_activation(taker) for taker in node.users)


def _macs(node: Any) -> int:
    """The operator's multiply-accumulates; 0 where it has none."""
    name, sources = _name(node), node.all_input_nodes
    shapes = [_shape(source) for source in sources]
    if not shapes or any(shape is None for shape in [*shapes[:2], _shape(node)]):
        return 0
    if "conv" in name and len(shapes) > 1:
        return _product(_shape(node) or ()) * _product((shapes[1] or ())[1:])
    if any(word in name for word in ("linear", "matmul", ".mm.", ".bmm.")) and len(shapes) > 1:
        return _product(_shape(node) or ()) * (shapes[0] or (0,))[-1]
    if "addmm" in name and len(shapes) > 2:
        return _product(_shape(node) or ()) * (shapes[1] or (0,))[-1]
    return 0


def _shape(node: Any) -> Any:
    value = node.meta.get("val")
    sizes = getattr(value, "shape", None)
    return None if sizes is None or not all(isinstance(d, int) for d in sizes) else tuple(sizes)


def _product(sizes: Iterable[int]) -> int:
    found = 1
    for size in sizes:
        found *= size
    return found
