"""The drawing of a network: well-formed for any names, complete, bounded, self-contained."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from orchestrator.domain import flops
from orchestrator.domain.network_graph import GraphNode, GraphTensor, NetworkGraph
from orchestrator.report.network import svg
from orchestrator.report.network.operator_families import COLOURS, family

SVG = "{http://www.w3.org/2000/svg}"


def tensor(name: str, *shape: int, constant: bool = False) -> GraphTensor:
    return GraphTensor(name, "float32", shape, constant)


def chain(count: int, shape: tuple[int, ...] = (1, 8)) -> NetworkGraph:
    nodes = tuple(GraphNode("Relu", f"relu{n}", (f"t{n}",), (f"t{n + 1}",)) for n in range(count))
    tensors = {f"t{n}": tensor(f"t{n}", *shape) for n in range(count + 1)}
    return NetworkGraph(
        "onnx", "ONNX opset 17", nodes, ("t0",), (f"t{count}",), tensors, frozenset()
    )


def draw(graph: NetworkGraph, name: str = "net") -> ElementTree.Element:
    text = svg.draw(name, graph, flops.count(graph))
    assert svg.is_drawing(text)
    return ElementTree.fromstring(text)


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def boxes(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]


def edges(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]


def small() -> NetworkGraph:
    """A convolution, a branch around an activation, a sum, a dense layer; two inputs."""
    nodes = (
        GraphNode(
            "Conv",
            "stem",
            ("x", "w", "b"),
            ("a",),
            {"strides": (2, 2), "pads": (1, 1, 1, 1), "group": 2, "kernel_shape": (3, 3)},
        ),
        GraphNode("Relu", "", ("a",), ("r",)),
        GraphNode("Add", "", ("r", "a"), ("s",)),
        GraphNode("Mul", "", ("s", "mask"), ("m",)),
        GraphNode("Split", "", ("m",), ("p", "q"), {"axis": 1}),
        GraphNode("Concat", "", ("q", "p"), ("y",), {"axis": 1}),
    )
    tensors = {
        "x": tensor("x", 1, 4, 16, 16),
        "mask": tensor("mask", 1, 8, 8, 8),
        "w": tensor("w", 8, 2, 3, 3, constant=True),
        "b": tensor("b", 8, constant=True),
        **{key: tensor(key, 1, 8, 8, 8) for key in "arsmy"},
        **{key: tensor(key, 1, 4, 8, 8) for key in "pq"},
    }
    weights = frozenset("wb")
    return NetworkGraph("onnx", "ONNX opset 17", nodes, ("x", "mask"), ("y",), tensors, weights)


def test_it_says_what_the_network_is() -> None:
    root = draw(small(), "mine")
    said = texts(root)
    assert said[0] == "mine"
    # 8 × 8 × 8 outputs, each over 3 × 3 of 2 channels
    assert said[1] == "ONNX opset 17 · 6 operators · 152 parameters · 9.216 k MACs (18.43 k FLOPs)"
    assert "3×3 · stride 2 · pad 1 · groups 2" in said
    assert "152 parameters · 9.216 k MACs" in said
    assert said.count("1×8×8×8 float32") == 5 + 2  # boxes with one output, mask, y
    assert said.count("1×4×8×8 float32") == 2  # on the edges from Split, which has two
    assert {"convolution 1", "elementwise 2", "input 2", "output 1"} <= set(said)


def test_every_box_and_edge_is_there() -> None:
    root = draw(small())
    assert len(boxes(root)) == 6 + 3
    assert len(edges(root)) == 10
    whole = boxes(root)[2].findtext(f"{SVG}title") or ""
    assert "group: 2" in whole
    assert "input w: 8×2×3×3 float32" in whole


def test_it_stands_alone_and_runs_nothing() -> None:
    root = draw(small())
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "style", "defs", "marker", "path", "rect", "text", "g",
    }  # fmt: skip
    for element in root.iter():
        for key, value in element.attrib.items():
            assert not key.startswith("on")
            assert "href" not in key
            assert "url(" not in value or value == "url(#head)"
    assert "http" not in svg.STYLE
    assert "url" not in svg.STYLE


@pytest.mark.parametrize(
    "name",
    ["<&>\"'", "</text><script>alert(1)</script>", "größe 層 🦆", "]]>", "a\x00b\x01c\x1b\ud800d"],
)
def test_any_name_is_written_as_text(name: str) -> None:
    node = GraphNode("Relu", name, ("x",), ("y",), {"mode": name})
    tensors = {"x": tensor(name, 1, 2), "y": tensor(name, 1, 2)}
    graph = NetworkGraph("onnx", name, (node,), ("x",), ("y",), tensors, frozenset())
    root = draw(graph, name)
    clean = "".join(c if c.isprintable() else "\ufffd" for c in name)
    assert texts(root)[0] == clean
    assert clean in texts(root)[3:]
    assert root.find(f".//{SVG}script") is None


def test_unknown_shapes_are_said_to_be() -> None:
    nodes = (GraphNode("NonZero", "", ("x",), ("n",)), GraphNode("MatMul", "", ("n", "n"), ("y",)))
    tensors = {"x": tensor("x", 4, 4), "n": GraphTensor("n", "int64", (2, -1))}
    graph = NetworkGraph("onnx", "ONNX", nodes, ("x",), ("y",), tensors, frozenset())
    said = texts(draw(graph))
    assert "2×? int64" in said
    assert "shape unknown" in said
    assert any(t.startswith("not counted: MatMul: the shapes") for t in said)
    assert "MACs" not in said[1]


def test_what_is_cut_is_said() -> None:
    root = draw(chain(svg.MAX_OPERATORS + 700))
    assert len(boxes(root)) == svg.MAX_OPERATORS + 2  # the input, and what is left out
    assert "the first 1,500 operators are drawn, 700 more are not" in texts(root)
    assert "700 more operators are not drawn" in texts(root)
    assert len(ElementTree.tostring(root)) < 3_000_000


def test_the_largest_that_is_drawn_whole() -> None:
    root = draw(chain(svg.MAX_OPERATORS))
    assert len(boxes(root)) == svg.MAX_OPERATORS + 2
    assert not any("not drawn" in text for text in texts(root))


def test_a_tensor_from_far_above_is_named_instead_of_drawn() -> None:
    graph = chain(svg.MAX_LAYERS_CROSSED + 5)
    end = GraphNode("Add", "", (graph.outputs[0], "t0"), ("y",))
    tensors = {**graph.tensors, "y": tensor("y", 1, 8)}
    graph = NetworkGraph("onnx", "ONNX", (*graph.nodes, end), ("t0",), ("y",), tensors, frozenset())
    root = draw(graph)
    assert "also takes t0, from far above" in texts(root)
    assert len(edges(root)) == svg.MAX_LAYERS_CROSSED + 5 + 1 + 1


def test_dense_connections_stay_bounded() -> None:
    """Every operator takes the outputs of all before it: quadratic in edges."""
    nodes = tuple(
        GraphNode("Concat", "", tuple(f"t{k}" for k in range(n + 1)), (f"t{n + 1}",))
        for n in range(60)
    )
    tensors = {f"t{n}": tensor(f"t{n}", 1, 8) for n in range(61)}
    graph = NetworkGraph("onnx", "ONNX", nodes, ("t0",), ("t60",), tensors, frozenset())
    assert len(edges(draw(graph))) == 60 * 61 // 2 + 1


def test_edges_without_end_and_names_without_end_are_cut() -> None:
    count = 200
    nodes = tuple(
        GraphNode("Concat", "n" * 10**5, tuple(f"t{k}" for k in range(n + 1)), (f"t{n + 1}",))
        for n in range(count)
    )
    tensors = {f"t{n}": tensor("t" * 10**5, 1, 8) for n in range(count + 1)}
    graph = NetworkGraph("onnx", "ONNX", nodes, ("t0",), (f"t{count}",), tensors, frozenset())
    root = draw(graph)
    links = count * (count + 1) // 2 + 1
    assert f"{links - svg.MAX_EDGES:,} more edges are not drawn" in texts(root)
    assert len(edges(root)) <= svg.MAX_EDGES
    assert len(ElementTree.tostring(root)) < 10_000_000


def test_constants_are_counted_not_drawn() -> None:
    nodes = (GraphNode("Constant", "", (), ("c",)), GraphNode("Add", "", ("x", "c"), ("y",)))
    tensors = {key: tensor(key, 1) for key in "xcy"}
    root = draw(NetworkGraph("onnx", "ONNX", nodes, ("x",), ("y",), tensors, frozenset()))
    assert len(boxes(root)) == 3
    assert "1 Constant operators are not drawn" in texts(root)


def test_operators_of_both_formats_have_the_same_family_and_all_have_a_colour() -> None:
    pairs = {"Conv": "DEPTHWISE_CONV_2D", "Gemm": "FULLY_CONNECTED", "Relu": "RELU6",
             "MaxPool": "MAX_POOL_2D", "Concat": "CONCATENATION",
             "DequantizeLinear": "DEQUANTIZE"}  # fmt: skip
    for onnx, tflite in pairs.items():
        found = {family(GraphNode(op, "", (), ())) for op in (onnx, tflite)}
        assert len(found) == 1
        assert found <= set(COLOURS) - {"other"}
    assert family(GraphNode("Relu", "", (), (), domain="my.ops")) == "other"


@pytest.mark.parametrize(
    ("place", "put"),
    [
        ("</svg>", "<script>alert(1)</script></svg>"),
        ("</svg>", "<image href='//elsewhere/x.png'/></svg>"),
        ("</svg>", "<g xmlns='http://www.w3.org/1999/xhtml'/></svg>"),
        ("<title>", "<title onclick='alert(1)'>"),
        ('fill="#fff"', 'fill="url(//elsewhere/#x)"'),
        ("<style>", "<style>@import '//elsewhere';"),
        ("<svg", "<!DOCTYPE svg [<!ENTITY a 'a'>]><svg"),
        ("<svg", "<?xml-stylesheet href='//elsewhere'?><svg"),
        ("</svg>", ""),
        ("<?xml", "<?xm"),
    ],
)
def test_what_we_could_not_have_drawn_is_told(place: str, put: str) -> None:
    graph = small()
    text = svg.draw("net", graph, flops.count(graph))
    assert svg.is_drawing(text)
    spoilt = text.replace(place, put, 1)
    assert spoilt != text
    assert not svg.is_drawing(spoilt)
