"""Families of ONNX and TFLite operators, their colours, and the attributes that a box shows."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.domain.network_graph import GraphNode
from orchestrator.report.palette import PALETTE

COLOURS = {
    "input": "#333333",
    "output": "#333333",
    "convolution": PALETTE[0],
    "matrix product": PALETTE[1],
    "recurrent or attention": PALETTE[7],
    "normalisation": PALETTE[6],
    "activation": PALETTE[2],
    "pooling or reduction": PALETTE[3],
    "elementwise": PALETTE[4],
    "quantisation": PALETTE[5],
    "data movement": "#8a8a8a",
    "other": "#bbbbbb",
}
"""Family → colour. Boxes name their operator too, so that colour is never the only sign."""

_MEMBERS = {
    "convolution": "Conv ConvInteger QLinearConv ConvTranspose DeformConv Conv2D Conv3D "
    "DepthwiseConv2D TransposeConv Conv3DTranspose",
    "matrix product": "Gemm MatMul MatMulInteger QLinearMatMul Einsum FullyConnected BatchMatMul",
    "recurrent or attention": "LSTM GRU RNN Attention Svdf RotaryEmbedding "
    "UnidirectionalSequenceLstm BidirectionalSequenceLstm UnidirectionalSequenceRnn",
    "normalisation": "BatchNormalization InstanceNormalization LayerNormalization "
    "GroupNormalization RMSNormalization LRN LpNormalization MeanVarianceNormalization "
    "L2Normalization LocalResponseNormalization",
    "activation": "Relu LeakyRelu PRelu Elu Selu Celu Gelu Sigmoid HardSigmoid HardSwish Swish "
    "Mish Tanh Softplus Softsign Softmax LogSoftmax Hardmax Clip ThresholdedRelu Erf "
    "Relu6 ReluN1To1 Relu0To1 Logistic",
    "pooling or reduction": "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool "
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSumExp "
    "ReduceSumSquare ArgMax ArgMin TopK MaxPool2D AveragePool2D L2Pool2D Mean Sum CumSum "
    "ReduceAny ReduceAll TopKV2",
    "elementwise": "Add Sub Mul Div Pow Sqrt Rsqrt Exp Log Neg Abs Min Max Minimum Maximum Floor "
    "Ceil Round Reciprocal Sin Cos Sign Square SquaredDifference Equal NotEqual Less LessEqual "
    "LessOrEqual Greater GreaterEqual GreaterOrEqual And Or Not Xor LogicalAnd LogicalOr "
    "LogicalNot Where Select SelectV2 Mod FloorDiv FloorMod AddN",
    "quantisation": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear Quantize Dequantize "
    "FakeQuant",
    "data movement": "Reshape Transpose Concat Concatenation Split SplitV Slice StridedSlice "
    "Squeeze Unsqueeze ExpandDims Flatten Pad PadV2 MirrorPad Gather GatherND GatherElements "
    "ScatterND ScatterElements Expand BroadcastTo Tile Cast Identity Dropout Shape Size Resize "
    "Upsample ResizeBilinear ResizeNearestNeighbor DepthToSpace SpaceToDepth BatchToSpaceNd "
    "SpaceToBatchNd Pack Unpack Range ConstantOfShape OneHot Constant",
}
_FAMILY = {name.lower(): family for family, names in _MEMBERS.items() for name in names.split()}


def family(node: GraphNode) -> str:
    """The family of a node; ONNX's and TFLite's spellings of an operator are the same."""
    return "other" if node.domain else _FAMILY.get(node.operator.replace("_", "").lower(), "other")


def attributes(node: GraphNode, shapes: list[tuple[int, ...] | None]) -> Iterator[str]:
    """Kernel, strides, groups and other attributes that a box shows; ``shapes`` of the inputs."""
    found = node.attributes
    kernel = found.get("kernel_shape", found.get("kernel"))
    weight = shapes[1] if len(shapes) > 1 else None
    if kernel is None and weight is not None and len(weight) > 3:
        if "CONV_" in node.operator or node.operator.endswith("_CONV"):
            kernel = weight[1:3]  # TFLite: [out, h, w, in]
        elif node.operator in ("Conv", "ConvTranspose"):
            kernel = weight[2:]
    if isinstance(kernel, tuple):
        yield "×".join(map(str, kernel))
    for key, label in (("strides", "stride"), ("stride", "stride"), ("dilations", "dilation"),
                       ("dilation", "dilation"), ("pads", "pad")):  # fmt: skip
        value = found.get(key)
        if isinstance(value, tuple) and value and set(value) != {0 if label == "pad" else 1}:
            same = len(set(value)) == 1
            yield f"{label} {value[0] if same else ','.join(map(str, value))}"
    group = found.get("group", 1)
    if isinstance(group, int) and group > 1:
        yield f"groups {group}"
    for key in ("padding", "activation", "axis", "axes", "perm", "hidden_size", "direction",
                "equation", "mode", "alpha", "to", "q_num_heads"):  # fmt: skip
        value = found.get(key)
        if value is not None and value != "":
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            yield f"{key} {shown:.4g}" if isinstance(shown, float) else f"{key} {shown}"
