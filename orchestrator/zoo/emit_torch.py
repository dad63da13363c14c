"""Writes a network as PyTorch: an ordinary module with the same weights, or a ``.pt2`` program.

Runs under the pytorch runtime environment; from the command line:
``python -m orchestrator.zoo.emit_torch NAME OUT.pt2 [--batch N] [--seed S]``.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.zoo.emit_command import emit
from orchestrator.zoo.errors import OperatorNotEmitted, ShapeMismatch, ToolMissing
from orchestrator.zoo.network import Network, Node, Shape

if TYPE_CHECKING:
    import torch


def to_module(network: Network) -> torch.nn.Module:
    """A ``torch.nn.Module`` in evaluation mode: (batch, *input shape) → (batch, *output shape).

    It is a graph module of plain ``torch.nn`` layers, its parameters named as in the network. A
    network with several outputs returns a tuple. Raises ToolMissing without PyTorch,
    UnsupportedOperator, WeightsMismatch.
    """
    torch = _torch()
    emission = _Emission(torch, network, torch.fx.Graph())
    values = {tensor.name: emission.graph.placeholder(tensor.name) for tensor in network.inputs}
    for node in network.nodes:
        if node.op not in OPERATORS:
            raise OperatorNotEmitted(f"{node.name}: no PyTorch rule for {node.op!r}")
        inputs = [values[name] for name in node.inputs]
        values[node.name] = OPERATORS[node.op](emission, node, inputs)
    outputs = tuple(values[tensor.name] for tensor in network.outputs)
    emission.graph.output(outputs[0] if len(outputs) == 1 else outputs)
    return torch.fx.GraphModule(emission.modules, emission.graph, "Network").eval()


def export_pt2(network: Network, path: Path, batch: int = 1) -> None:
    """Writes the module as a ``torch.export`` program, for a fixed ``batch``.

    Raises what ``to_module`` raises, ShapeMismatch if ``batch`` < 1, OSError.
    """
    torch = _torch()
    if batch < 1:
        raise ShapeMismatch(f"{network.name}: batch {batch} must be at least 1")
    example = tuple(torch.zeros(batch, *tensor.shape) for tensor in network.inputs)
    with torch.no_grad():
        program = torch.export.export(to_module(network), example)
    torch.export.save(program, path)


@dataclass
class _Emission:
    torch: Any
    network: Network
    graph: Any
    modules: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tensors = (*self.network.inputs, *(node.output for node in self.network.nodes))
        self.shapes.update({tensor.name: tensor.shape for tensor in tensors})

    def call(self, name: str, module: Any, x: Any) -> Any:
        """Registers ``module`` under ``name`` and calls it on the graph value ``x``."""
        self.modules[name] = module
        return self.graph.call_module(name, (x,))

    def fill(self, module: Any, node: Node) -> Any:
        """Sets the weight and bias of ``module`` to the node's."""
        with self.torch.no_grad():
            for target, parameter in zip(
                (module.weight, module.bias), node.parameters, strict=True
            ):
                target.copy_(self.torch.from_numpy(self.network.array(parameter)))
        return module


Rule = Callable[[_Emission, Node, list[Any]], Any]


def _torch() -> Any:
    try:
        import torch
        import torch.export
        import torch.fx
    except ImportError as error:
        raise ToolMissing(
            "emitting PyTorch needs torch: pip install 'benchfarm[pytorch]'"
        ) from error
    return torch


def _layer(make: Callable[[Any], Any]) -> Rule:
    def rule(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
        return emission.call(node.name, make(emission.torch.nn), inputs[0])

    return rule


def _conv(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    nn, x = emission.torch.nn, inputs[0]
    outside, inside = _split_pads(node)
    if any(outside):
        x = emission.call(f"{node.name}_pad", nn.ZeroPad2d(outside), x)
    groups = node.attribute("groups")[0]
    weight = node.parameters[0].shape
    module = nn.utils.skip_init(
        nn.Conv2d,
        weight[1] * groups,
        weight[0],
        node.attribute("kernel"),
        stride=node.attribute("stride"),
        padding=inside,
        dilation=node.attribute("dilation"),
        groups=groups,
    )
    return emission.call(node.name, emission.fill(module, node), x)


def _dense(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    nn = emission.torch.nn
    features, depth = node.parameters[0].shape
    module = nn.utils.skip_init(nn.Linear, depth, features)
    return emission.call(node.name, emission.fill(module, node), inputs[0])


def _max_pool(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    nn, x = emission.torch.nn, inputs[0]
    kernel, stride = node.attribute("kernel"), node.attribute("stride")
    top, left, bottom, right = node.attribute("pads")
    ceil = _ceil_mode(node, emission.shapes[node.inputs[0]])
    if ceil is None:
        pad = nn.ConstantPad2d((left, right, top, bottom), float("-inf"))
        x, top, left = emission.call(f"{node.name}_pad", pad, x), 0, 0
    module = nn.MaxPool2d(kernel, stride, (top, left), ceil_mode=bool(ceil))
    return emission.call(node.name, module, x)


def _avg_pool(emission: _Emission, node: Node, inputs: list[Any]) -> Any:
    torch, x = emission.torch, inputs[0]
    kernel, stride = node.attribute("kernel"), node.attribute("stride")
    top, left, bottom, right = node.attribute("pads")
    shape = emission.shapes[node.inputs[0]]
    ceil = _ceil_mode(node, shape)
    if ceil is not None:
        module = torch.nn.AvgPool2d(
            kernel, stride, (top, left), ceil_mode=ceil, count_include_pad=False
        )
        return emission.call(node.name, module, x)
    # AvgPool2d has no such option: average the zero-padded input, then divide by the share of real
    # pixels in each window, which is the pooled average of padded ones.
    pad = torch.nn.ZeroPad2d((left, right, top, bottom))
    pool = torch.nn.AvgPool2d(kernel, stride)
    emission.modules[f"{node.name}_share"] = 1.0 / pool(pad(torch.ones(1, *shape)))
    pooled = emission.call(node.name, pool, emission.call(f"{node.name}_pad", pad, x))
    share = emission.graph.get_attr(f"{node.name}_share")
    return emission.graph.call_function(operator.mul, (pooled, share))


def _add(emission: _Emission, _node: Node, inputs: list[Any]) -> Any:
    total = inputs[0]
    for term in inputs[1:]:
        total = emission.graph.call_function(operator.add, (total, term))
    return total


def _concat(emission: _Emission, _node: Node, inputs: list[Any]) -> Any:
    return emission.graph.call_function(emission.torch.cat, (inputs,), {"dim": 1})


def _ceil_mode(node: Node, shape: Shape) -> bool | None:
    """The value of PyTorch's ``ceil_mode`` that gives this pool, padded by its top and left; None:
    neither does.

    PyTorch pads both ends alike; ``ceil_mode`` lets the last window reach over the end, unless it
    would start in the end's padding.
    """
    kernel, stride, pads = (node.attribute(key) for key in ("kernel", "stride", "pads"))
    begin, end = pads[:2], pads[2:]
    if any(2 * pad > size for pad, size in zip(begin, kernel, strict=True)):
        return None
    if begin == end:
        return False
    for axis in range(2):
        size = shape[axis + 1] + begin[axis]
        count = -(-(size + begin[axis] - kernel[axis]) // stride[axis]) + 1
        if (count - 1) * stride[axis] >= size:
            count -= 1
        if count != node.shape[axis + 1]:
            return None
    return True


def _split_pads(node: Node) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Pads as (left, right, top, bottom) outside the layer, and symmetric ones inside it."""
    top, left, bottom, right = node.attribute("pads")
    if (top, left) == (bottom, right):
        return (0, 0, 0, 0), (top, left)
    return (left, right, top, bottom), (0, 0)


OPERATORS: dict[str, Rule] = {
    "conv": _conv,
    "relu": _layer(lambda nn: nn.ReLU()),
    "relu6": _layer(lambda nn: nn.ReLU6()),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _layer(lambda nn: nn.AdaptiveAvgPool2d(1)),
    "add": _add,
    "concat": _concat,
    "flatten": _layer(lambda nn: nn.Flatten()),
    "dense": _dense,
    "softmax": _layer(lambda nn: nn.Softmax(dim=1)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code of ``emit``."""
    return emit("emit_torch", ".pt2", export_pt2, arguments)


if __name__ == "__main__":
    sys.exit(main())
