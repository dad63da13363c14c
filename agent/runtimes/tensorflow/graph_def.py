"""Two checks of parsed TensorFlow graphs: operators that touch files or run other code, and the
layouts of inputs and outputs (``agent.formats.layouts``). Imports no TensorFlow.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

from agent.contract.failures import BadModel
from agent.formats.layouts import Step, input_layout, output_layout

_SAVES = frozenset(["SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"])
_SAVERS = ("__inference__traced_save_", "__inference__traced_restore_")


def _words(text: str) -> FrozenSet[str]:
    return frozenset(text.split())


_UNSAFE = _words(
    """
    ReadFile WriteFile MatchingFiles Save SaveSlices Restore RestoreSlice LoadAndRemapMatrix
    PyFunc PyFuncStateless EagerPyFunc FileSystemSetConfiguration GenerateVocabRemapping
    SaveDataset SaveDatasetV2 LoadDataset CacheDataset CacheDatasetV2 SnapshotDataset
    SnapshotDatasetV2 TextLineDataset TFRecordDataset TFRecordDatasetV2 FixedLengthRecordDataset
    FixedLengthRecordDatasetV2 CSVDataset CSVDatasetV2 SqlDataset LMDBDataset DataServiceDataset
    TextLineReader TextLineReaderV2 WholeFileReader WholeFileReaderV2 TFRecordReader
    TFRecordReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 LMDBReader
    CreateSummaryFileWriter CreateSummaryDbWriter InitializeTableFromTextFile
    InitializeTableFromTextFileV2 RpcCall RpcClient RpcServer DebugIdentity DebugIdentityV2
    """
)

_LOOPS = _words("While StatelessWhile LoopCond")
_CALLS = _words("PartitionedCall StatefulPartitionedCall")
# Operators whose attribute ``data_format`` tells the layout of their first input, and the number of
# that input for others.
_FIRST = _words(
    """
    Conv2D _FusedConv2D DepthwiseConv2dNative _FusedDepthwiseConv2dNative MaxPool MaxPoolV2 AvgPool
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 _FusedBatchNormEx SpaceToDepth DepthToSpace
    """
)
_IMAGE = {**dict.fromkeys(_FIRST, 0), "Conv2DBackpropInput": 2}
_ALWAYS_NHWC = _words("ResizeBilinear ResizeNearestNeighbor ResizeBicubic ResizeArea")
_KEEPS_AXES = _words(
    """
    Identity StopGradient Relu Relu6 LeakyRelu Elu Selu Sigmoid Tanh Softplus Neg Abs Exp Square
    Sqrt Rsqrt Cast Pad PadV2 MirrorPad Add AddV2 Sub Mul RealDiv Maximum Minimum BiasAdd
    FakeQuantWithMinMaxVars FakeQuantWithMinMaxArgs QuantizeAndDequantizeV2
    QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 PlaceholderWithDefault ClipByValue
    """
)
MOST_NODES = 2000


def refuse_unsafe(graph_def: Any, name: str, savers: bool = False) -> None:
    """Refuse a graph that would read or write files, or run code that is not TensorFlow's own.

    Args:
        savers: the graph is a SavedModel's; its functions for saving and restoring are allowed, as
            long as no other function calls them.

    Raises:
        BadModel: names the operator.
    """
    for owner, node in _all_nodes(graph_def):
        saver = savers and (not owner or owner.startswith(_SAVERS))
        prints = "output_stream" in node.attr and b"file:" in node.attr["output_stream"].s
        if node.op in _UNSAFE or prints or (node.op in _SAVES and not saver):
            raise BadModel(
                "%s holds the operator %s, which touches files or runs other code; it is not loaded"
                % (name, node.op)
            )
        for attribute in node.attr.values() if owner and savers else ():
            if attribute.func.name.startswith(_SAVERS):
                raise BadModel("%s calls its own saving function %s" % (name, attribute.func.name))


def has_loops(graph_def: Any) -> bool:
    """Whether the graph or one of its functions holds a loop."""
    return any(node.op in _LOOPS for _, node in _all_nodes(graph_def))


def _all_nodes(graph_def: Any) -> Iterator[Tuple[str, Any]]:
    for node in graph_def.node:
        yield "", node
    for function in graph_def.library.function:
        for node in function.node_def:
            yield function.signature.name, node


class _Body(NamedTuple):
    """A graph or a function. ``users``: (node, output) → (node, input) for all that take it."""

    nodes: Dict[str, Any]
    users: Dict[Tuple[str, int], List[Tuple[Any, int]]]
    arguments: Tuple[str, ...]
    returns: Tuple[Tuple[str, int], ...]


_Tensor = Tuple[str, str, int]
"""(function, empty for the graph itself; node; output)."""


class GraphLayouts:
    """Follows layouts in ``graph_def`` and into the functions that it calls."""

    def __init__(self, graph_def: Any) -> None:
        self._functions = {f.signature.name: f for f in graph_def.library.function}
        self._bodies: Dict[str, _Body] = {"": _body(graph_def.node, (), ())}

    def of_input(self, tensor: str) -> str:
        """``NHWC``, ``NCHW``, or empty where no operator tells; ``tensor`` as ``name:0``."""
        return input_layout(("", *_split(tensor)), self._takers, MOST_NODES)

    def of_output(self, tensor: str) -> str:
        """The same for an output, from the operators that made it."""
        return output_layout(("", *_split(tensor)), self._makers, MOST_NODES)

    def _takers(self, tensor: _Tensor) -> Iterator[Step]:
        function, name, output = tensor
        body = self._bodies[function]
        for node, number in body.users.get((name, output), ()):
            if node.op in _CALLS:
                called = node.attr["f"].func.name
                inner = self._function(called)
                if inner is not None and number < len(inner.arguments):
                    yield Step(tensor=(called, inner.arguments[number], 0))
            elif _IMAGE.get(node.op) == number or (node.op in _ALWAYS_NHWC and not number):
                yield Step(_data_format(node))
            elif node.op in _KEEPS_AXES:
                yield Step(tensor=(function, node.name, 0))
            elif node.op == "Transpose" and not number:
                yield Step(tensor=(function, node.name, 0), order=_permutation(body, node))

    def _makers(self, tensor: _Tensor) -> Iterator[Step]:
        function, name, output = tensor
        body = self._bodies[function]
        node = body.nodes.get(name)
        if node is None:
            return
        if node.op in _CALLS:
            called = node.attr["f"].func.name
            inner = self._function(called)
            if inner is not None and output < len(inner.returns):
                yield Step(tensor=(called, *inner.returns[output]))
            return
        inputs = [(function, *_split(i)) for i in node.input if not i.startswith("^")]
        if (node.op in _IMAGE and output == 0) or node.op in _ALWAYS_NHWC:
            yield Step(_data_format(node))
        elif node.op in _KEEPS_AXES:
            yield from (Step(tensor=source) for source in inputs)
        elif node.op == "Transpose" and inputs:
            yield Step(tensor=inputs[0], order=_permutation(body, node))

    def _function(self, name: str) -> Optional[_Body]:
        if name not in self._bodies and name in self._functions:
            function = self._functions[name]
            self._bodies[name] = _body(
                function.node_def,
                tuple(a.name for a in function.signature.input_arg),
                tuple(_split(function.ret[a.name]) for a in function.signature.output_arg),
            )
        return self._bodies.get(name)


def _body(nodes: Any, arguments: Tuple[str, ...], returns: Tuple[Tuple[str, int], ...]) -> _Body:
    users: Dict[Tuple[str, int], List[Tuple[Any, int]]] = {}
    for node in nodes:
        for place, source in enumerate(node.input):
            if not source.startswith("^"):
                users.setdefault(_split(source), []).append((node, place))
    return _Body({node.name: node for node in nodes}, users, arguments, returns)


def _split(tensor: str) -> Tuple[str, int]:
    """``node``, ``node:2`` (in a graph) or ``node:output:2`` (in a function) as (node, 2)."""
    parts = tensor.split(":")
    return parts[0], int(parts[-1]) if len(parts) > 1 and parts[-1].isdigit() else 0


def _data_format(node: Any) -> str:
    if node.op in _ALWAYS_NHWC:
        return "NHWC"
    # Reading an absent attribute of a protobuf map creates it; absent, it has its default.
    found = node.attr["data_format"].s if "data_format" in node.attr else b"NHWC"
    return {b"NHWC": "NHWC", b"NCHW": "NCHW"}.get(found, "")


def _permutation(body: _Body, node: Any) -> Tuple[int, ...]:
    constant = body.nodes.get(_split(node.input[1])[0]) if len(node.input) > 1 else None
    while constant is not None and constant.op == "Identity":
        constant = body.nodes.get(_split(constant.input[0])[0])
    if constant is None or constant.op != "Const":
        return ()
    tensor = constant.attr["value"].tensor
    if len(tensor.tensor_content) == 16:
        return struct.unpack("<4i", tensor.tensor_content)
    return tuple(tensor.int_val)
