"""Which values the inputs of a TensorFlow function can take: the users of each tensor, for
``agent.formats.value_ranges``."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from agent.contract.input_values import InputValues
from agent.contract.trial import TensorSpec
from agent.formats.value_ranges import MASKED, Passed, Wanted, input_values

_SAME = frozenset(
    [
        "Abs", "BroadcastTo", "Cast", "Ceil", "DepthToSpace", "ExpandDims", "Floor", "GatherNd",
        "GatherV2", "Gather", "Identity", "IdentityN", "Max", "MaxPool", "Min", "Pad", "PadV2",
        "Relu", "Reshape", "ResourceGather", "ReverseV2", "Rint", "Round", "Slice", "SpaceToDepth",
        "Squeeze", "StridedSlice", "StopGradient", "Tile", "Transpose", "Unpack",
    ]
)  # fmt: skip
"""Operators whose output holds values of their first input."""
_ANY = frozenset(["ConcatV2", "Maximum", "Minimum", "Pack", "Select", "SelectV2"])
_TABLES = {("GatherV2", 1), ("Gather", 1), ("ResourceGather", 1)}
_COMPARED = frozenset(["Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual"])
_CALLS = frozenset(["PartitionedCall", "StatefulPartitionedCall"])
_READS = frozenset(["Cast", "Identity", "ReadVariableOp", "Transpose"])
_ADDS = ("Add", "AddV2", "Sub")

_Tensor = Tuple[str, str, int]
"""(function, empty for the graph itself; node; output)."""
_Shape = Tuple[int, ...]


def of_function(function: Any, inputs: Sequence[TensorSpec]) -> Dict[str, InputValues]:
    """What operators say about the ``inputs`` of a concrete function, in its order; inputs of which
    none says anything are left out."""
    uses = _GraphUses(function)
    found = {}
    for spec, tensor in zip(inputs, function.inputs):  # noqa: B905 - strict= is newer than 3.8
        known = input_values(spec, ("", tensor.op.name, 0), uses)
        if known is not None:
            found[spec.name] = known
    return found


class _GraphUses:
    """The users of each tensor of a concrete function and of the functions that it calls."""

    def __init__(self, function: Any) -> None:
        graph_def = function.graph.as_graph_def()
        self._functions = {f.signature.name: f for f in graph_def.library.function}
        self._variables = _variables(function)
        self._nodes: Dict[str, Dict[str, Any]] = {}
        self._users: Dict[_Tensor, List[Tuple[Any, int]]] = {}
        self._callers: Dict[Tuple[str, str], _Tensor] = {}
        self._read("", graph_def.node)

    def _read(self, function: str, nodes: Any) -> None:
        self._nodes[function] = {node.name: node for node in nodes}
        for node in nodes:
            for place, source in enumerate(_sources(function, node)):
                self._users.setdefault(source, []).append((node, place))

    def __call__(self, tensor: _Tensor) -> Iterator[Union[Passed, Wanted]]:
        function = tensor[0]
        for node, place in self._users.get(tensor, ()):
            if node.op in _CALLS:
                inner = self._enter(function, node, place)
                if inner is not None:
                    yield Passed(inner)
                continue
            out = (function, node.name, 0)
            yield from self._wanted(function, node, place)
            if (node.op in _SAME and place == 0) or node.op in _ANY:
                yield Passed(out)
            elif node.op in _ADDS or node.op in ("Mul", "FloorDiv"):
                yield from self._changed(function, node, place, out)

    def _enter(self, function: str, node: Any, place: int) -> Optional[_Tensor]:
        """The argument of a called function that the input ``place`` of a call becomes."""
        called = node.attr["f"].func.name
        if called not in self._functions:
            return None
        body = self._functions[called]
        arguments = [a.name for a in body.signature.input_arg]
        if called not in self._nodes:
            self._read(called, body.node_def)
        for argument, source in zip(arguments, _sources(function, node)):  # noqa: B905
            self._callers.setdefault((called, argument), source)
        return (called, arguments[place], 0) if place < len(arguments) else None

    def _wanted(self, function: str, node: Any, place: int) -> Iterator[Wanted]:
        sources = _sources(function, node)
        if (node.op, place) in _TABLES:
            table, name = self._table(sources[0])
            axis = self._axis(node, sources)
            inside = axis is not None and -len(table or ()) <= axis < len(table or ())
            rows = table[axis] if table and axis is not None and inside else 0
            if rows > 0:
                yield Wanted(0, rows - 1, "rows of %s, which %s reads" % (name, node.op))
        elif node.op == "GatherNd" and place == 1:
            table, name = self._table(sources[0])
            sizes = [size for size in table if size > 0]
            if sizes and len(sizes) == len(table):
                yield Wanted(0, min(sizes) - 1, "coordinates in %s, which GatherNd takes" % name)
        elif node.op == "OneHot" and place == 0:
            depth = self._number(sources[1])
            if depth and depth >= 1:
                yield Wanted(0, depth - 1, "classes of OneHot, depth %g" % depth)
        elif node.op == "ReverseSequence" and place == 1:
            table, _ = self._table(sources[0])
            axis = node.attr["seq_dim"].i
            if axis < len(table) and table[axis] > 0:
                yield Wanted(1, table[axis], "lengths of the sequences of ReverseSequence")
        elif node.op in _COMPARED:
            other = self._number(sources[1 - place])
            if other is not None:
                high = max(1.0, other + (0 if node.op in ("Equal", "NotEqual") else 1))
                yield Wanted(0, high, "compared with %g by %s" % (other, node.op), weak=True)
        elif node.op == "Cast" and node.attr["DstT"].type == 10:
            yield Wanted(0, 1, "made a boolean by Cast", weak=True)

    def _axis(self, node: Any, sources: Sequence[_Tensor]) -> Optional[int]:
        if node.op == "ResourceGather":
            return int(node.attr["batch_dims"].i) if "batch_dims" in node.attr else 0
        if node.op == "Gather" or len(sources) < 3:
            return 0
        axis = self._number(sources[2])
        return None if axis is None else int(axis)

    def _changed(
        self, function: str, node: Any, place: int, out: _Tensor
    ) -> Iterator[Union[Passed, Wanted]]:
        other = self._number(_sources(function, node)[1 - place])
        if other is None:
            if node.op in ("Add", "AddV2"):  # two parts of one index: half of the range is valid
                yield Passed(out, 2.0)
        elif node.op == "Mul":
            if abs(other) >= MASKED:
                yield Wanted(0, 1, "a mask: Mul by %g" % other, weak=other > 0)
            elif other:
                yield Passed(out, other)
        elif node.op == "FloorDiv":
            if place == 0 and other > 0:
                yield Passed(out, 1.0 / other)
        elif node.op != "Sub":
            yield Passed(out, 1.0, (other, other))
        elif place == 0:
            yield Passed(out, 1.0, (-other, -other))
        else:
            yield Passed(out, -1.0, (other, other))

    def _node(self, tensor: _Tensor) -> Any:
        return self._nodes.get(tensor[0], {}).get(tensor[1])

    def _source(self, tensor: _Tensor) -> Tuple[_Tensor, bool]:
        """Where a table comes from, through functions' arguments and reads; and whether it was
        transposed on the way."""
        turned = False
        for _ in range(32):
            if tensor[:2] in self._callers:
                tensor = self._callers[tensor[:2]]
                continue
            node = self._node(tensor)
            if node is None or node.op not in _READS:
                break
            turned = turned or node.op == "Transpose"
            tensor = _sources(tensor[0], node)[0]
        return tensor, turned

    def _table(self, tensor: _Tensor) -> Tuple[_Shape, str]:
        """A table's shape and what to call it; an empty shape: unknown."""
        source, turned = self._source(tensor)
        node = self._node(source)
        shape: _Shape = ()
        name = source[1]
        if not source[0] and source[1] in self._variables:
            shape, name = self._variables[source[1]]
        elif node is not None and node.op == "Const":
            shape = tuple(int(d.size) for d in node.attr["value"].tensor.tensor_shape.dim)
        elif node is not None and node.op in ("VarHandleOp", "Placeholder"):
            shape = tuple(int(d.size) for d in node.attr["shape"].shape.dim)
        if turned and len(shape) != 2:
            return (), name
        return (shape[::-1] if turned else shape), repr(name)

    def _number(self, tensor: _Tensor) -> Optional[float]:
        """The value of a constant of one element; ``None``: it is none."""
        source, _ = self._source(tensor)
        node = self._node(source)
        if node is None or node.op != "Const":
            return None
        from tensorflow.python.framework.tensor_util import MakeNdarray

        value = node.attr["value"].tensor
        if any(int(d.size) != 1 for d in value.tensor_shape.dim):
            return None
        array = MakeNdarray(value)
        return float(array.reshape(())) if array.dtype.kind in "iufb" else None


def _sources(function: str, node: Any) -> List[_Tensor]:
    """The tensors that a node takes: ``node``, ``node:2`` (in a graph) or ``node:output:2``."""
    found = []
    for text in node.input:
        if not text.startswith("^"):
            parts = text.split(":")
            last = int(parts[-1]) if len(parts) > 1 and parts[-1].isdigit() else 0
            found.append((function, parts[0], last))
    return found


def _variables(function: Any) -> Dict[str, Tuple[_Shape, str]]:
    """Placeholder of the graph → shape and name of the variable that it stands for."""
    found = {}
    captured = list(function.captured_inputs)
    own = function.inputs[len(function.inputs) - len(captured) :]
    by_handle = {id(v.handle): v for v in function.graph.variables}
    for inner, outer in zip(own, captured):  # noqa: B905 - strict= is newer than 3.8
        variable = by_handle.get(id(outer))
        if variable is not None:
            shape, name = tuple(variable.shape), variable.name.split(":")[0]
        else:
            data = getattr(outer, "_handle_data", None)
            kinds = list(data.shape_and_type) if data is not None and data.is_set else []
            shape = tuple(int(d.size) for d in kinds[0].shape.dim) if kinds else tuple(outer.shape)
            name = inner.op.name
        found[inner.op.name] = (tuple(-1 if d is None else int(d) for d in shape), name)
    return found
