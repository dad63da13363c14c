"""Builds a network layer by layer and infers shapes, so that mistakes are reported at once.

It also tracks the moments that each tensor is expected to have, and gives every convolution and
dense layer weights of standard deviation 1 / sqrt(fan_in · E[x²]): He's
initialisation (arXiv:1502.01852) for inputs that come from one ReLU, and elsewhere (residual sums,
linear bottlenecks) the effect of a folded batch norm. So activations neither explode nor vanish
into denormals at any depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from orchestrator.zoo.errors import DuplicateName, ShapeMismatch, UnknownTensor, UnusedLayer
from orchestrator.zoo.moments import NORMALISED, Moments, of_mixture, of_sum
from orchestrator.zoo.network import Attributes, Network, Node, Shape, Tensor
from orchestrator.zoo.weights import Parameter, Weights
from orchestrator.zoo.windows import Padding, Size, Window, resolve

BIAS_STD = 0.1
"""Standard deviation of biases: small against the outputs' unit variance, but not zero, so that
tests notice an emitter that drops the bias."""

P = ParamSpec("P")
R = TypeVar("R")


class NetworkBuilder:
    """Collects the nodes of one network. Every layer method returns its node's output tensor.

    Methods raise ShapeMismatch, DuplicateName or UnknownTensor, naming the layer. Layers with
    weights need a name, from which their seeds derive; others get one if it is omitted.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: list[Tensor] = []
        self._nodes: list[Node] = []
        self._moments: dict[str, Moments] = {}
        self._shapes: dict[str, Shape] = {}
        self._scopes: list[str] = []

    def input(self, shape: Shape, name: str = "input") -> Tensor:
        """A network input of ``shape``, without batch; expected to have E[x²] near 1."""
        if not shape or min(shape) < 1:
            raise ShapeMismatch(f"{name}: shape {shape} must hold positive sizes")
        tensor = Tensor(name, shape)
        self._claim(tensor, NORMALISED)
        self._inputs.append(tensor)
        return tensor

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefixes the names of layers made inside with ``name.``; scopes nest."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def cell(
        self,
        name: str,
        function: Callable[Concatenate[NetworkBuilder, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Calls ``function(self, ...)`` in a scope: reusable, with weights of its own."""
        with self.scope(name):
            return function(self, *args, **kwargs)

    def conv(
        self,
        name: str,
        x: Tensor,
        channels: int,
        kernel: Size,
        *,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
    ) -> Tensor:
        """Convolution with bias, (C, H, W) → (channels, H', W'); a folded norm is in both."""
        full = self._scoped(name)
        depth, *size = self._image(full, x)
        if groups < 1 or channels < 1 or depth % groups or channels % groups:
            raise ShapeMismatch(
                f"{full}: {groups} groups must divide {depth} input and {channels} output channels"
            )
        window = resolve(
            full, size, kernel=kernel, stride=stride, padding=padding, dilation=dilation
        )
        attributes = (
            *_pool_attributes(window),
            ("dilation", window.dilation),
            ("groups", (groups,)),
        )
        weight = (channels, depth // groups, *window.kernel)
        shape = (channels, *window.output)
        return self._weighted("conv", full, x, shape, weight, attributes)

    def dense(self, name: str, x: Tensor, features: int) -> Tensor:
        """Fully connected layer with bias, (F,) → (features,)."""
        full = self._scoped(name)
        if len(x.shape) != 1 or features < 1:
            raise ShapeMismatch(f"{full}: dense wants a vector, {x.name} is {x.shape}; flatten it")
        return self._weighted("dense", full, x, (features,), (features, x.shape[0]), ())

    def relu(self, x: Tensor, name: str = "") -> Tensor:
        """max(x, 0)."""
        return self._append("relu", name, (x,), x.shape, self._moment(x).rectified())

    def relu6(self, x: Tensor, name: str = "") -> Tensor:
        """min(max(x, 0), 6)."""
        return self._append("relu6", name, (x,), x.shape, self._moment(x).rectified())

    def softmax(self, x: Tensor, name: str = "") -> Tensor:
        """exp(x) / Σ exp(x) over a vector's features."""
        if len(x.shape) != 1:
            raise ShapeMismatch(f"softmax wants a vector, {x.name} is {x.shape}; flatten it")
        return self._append(
            "softmax", name, (x,), x.shape, Moments(1.0 / x.shape[0], 1.0 / x.shape[0] ** 2)
        )

    def max_pool(
        self, x: Tensor, kernel: Size, *, stride: Size, padding: Padding = 0, name: str = ""
    ) -> Tensor:
        """Maximum over each window; padding counts as minus infinity."""
        window, shape = self._pool(name or f"max_pool of {x.name}", x, kernel, stride, padding)
        moment = self._moment(x).greatest_of(math.prod(window.kernel))
        return self._append("max_pool", name, (x,), shape, moment, _pool_attributes(window))

    def avg_pool(
        self, x: Tensor, kernel: Size, *, stride: Size, padding: Padding = 0, name: str = ""
    ) -> Tensor:
        """Mean over each window's pixels, without padding."""
        window, shape = self._pool(name or f"avg_pool of {x.name}", x, kernel, stride, padding)
        return self._append(
            "avg_pool", name, (x,), shape, self._moment(x), _pool_attributes(window)
        )

    def global_avg_pool(self, x: Tensor, name: str = "") -> Tensor:
        """Mean over all pixels, (C, H, W) → (C, 1, 1)."""
        depth = self._image(name or "global_avg_pool", x)[0]
        return self._append("global_avg_pool", name, (x,), (depth, 1, 1), self._moment(x))

    def add(self, *tensors: Tensor, name: str = "") -> Tensor:
        """Elementwise sum of two or more tensors of one shape; nothing is broadcast."""
        shapes = sorted({tensor.shape for tensor in tensors})
        if len(tensors) < 2 or len(shapes) != 1:
            raise ShapeMismatch(f"add wants two or more tensors of one shape, found {shapes}")
        moment = of_sum([self._moment(tensor) for tensor in tensors])
        return self._append("add", name, tensors, tensors[0].shape, moment)

    def concat(self, *tensors: Tensor, name: str = "") -> Tensor:
        """Joins along channels (or features); all other sizes must be equal."""
        shapes = [tensor.shape for tensor in tensors]
        if len(tensors) < 2 or len({shape[1:] for shape in shapes}) != 1:
            raise ShapeMismatch(f"concat wants tensors equal but for their channels, got {shapes}")
        depth = sum(shape[0] for shape in shapes)
        moment = of_mixture([(t.shape[0], self._moment(t)) for t in tensors])
        return self._append("concat", name, tensors, (depth, *shapes[0][1:]), moment)

    def flatten(self, x: Tensor, name: str = "") -> Tensor:
        """(C, H, W) → (C·H·W,), channels outermost."""
        return self._append("flatten", name, (x,), (math.prod(x.shape),), self._moment(x))

    def build(self, *outputs: Tensor, weights: Weights) -> Network:
        """The finished network. Raises UnusedLayer if a layer leads to none of ``outputs``."""
        used = {tensor.name for tensor in outputs}
        made = {node.name for node in self._nodes}
        if not outputs or len(used) != len(outputs) or not used <= made:
            raise UnknownTensor(
                f"{self.name}: outputs must be one or more different layers of this network, "
                f"found {[tensor.name for tensor in outputs]}"
            )
        for node in reversed(self._nodes):
            if node.name not in used:
                raise UnusedLayer(
                    f"{self.name}: {node.name} leads to no output; connect or drop it"
                )
            used.update(node.inputs)
        return Network(self.name, tuple(self._inputs), tuple(self._nodes), outputs, weights)

    def _scoped(self, name: str) -> str:
        return ".".join((*self._scopes, name))

    def _moment(self, x: Tensor) -> Moments:
        if self._shapes.get(x.name) != x.shape:
            raise UnknownTensor(f"{self.name}: tensor {x.name} {x.shape} is not of this network")
        return self._moments[x.name]

    def _image(self, layer: str, x: Tensor) -> tuple[int, int, int]:
        if len(x.shape) != 3:
            raise ShapeMismatch(f"{layer}: wants (channels, height, width), {x.name} is {x.shape}")
        return x.shape[0], x.shape[1], x.shape[2]

    def _pool(
        self, layer: str, x: Tensor, kernel: Size, stride: Size, padding: Padding
    ) -> tuple[Window, Shape]:
        depth, *size = self._image(layer, x)
        window = resolve(layer, size, kernel=kernel, stride=stride, padding=padding)
        return window, (depth, *window.output)

    def _claim(self, tensor: Tensor, moment: Moments) -> None:
        if tensor.name in self._shapes:
            raise DuplicateName(f"{self.name}: {tensor.name} exists; use a scope or another name")
        self._shapes[tensor.name] = tensor.shape
        self._moments[tensor.name] = moment

    def _weighted(
        self, op: str, full: str, x: Tensor, shape: Shape, weight: Shape, attributes: Attributes
    ) -> Tensor:
        fan_in = math.prod(weight[1:])
        parameters = (
            Parameter(f"{full}.weight", weight, 1.0 / math.sqrt(fan_in * self._moment(x).square)),
            Parameter(f"{full}.bias", (weight[0],), BIAS_STD),
        )
        node = Node(op, full, (x.name,), shape, attributes, parameters)
        return self._keep(node, NORMALISED)

    def _append(
        self,
        op: str,
        name: str,
        inputs: tuple[Tensor, ...],
        shape: Shape,
        moment: Moments,
        attributes: Attributes = (),
    ) -> Tensor:
        full = self._scoped(name) if name else self._free_name(op)
        node = Node(op, full, tuple(tensor.name for tensor in inputs), shape, attributes)
        return self._keep(node, moment)

    def _keep(self, node: Node, moment: Moments) -> Tensor:
        self._claim(node.output, moment)
        self._nodes.append(node)
        return node.output

    def _free_name(self, op: str) -> str:
        first, number = self._scoped(op), 2
        name = first
        while name in self._shapes:
            name, number = f"{first}_{number}", number + 1
        return name


def _pool_attributes(window: Window) -> Attributes:
    return (("kernel", window.kernel), ("stride", window.stride), ("pads", window.pads))
