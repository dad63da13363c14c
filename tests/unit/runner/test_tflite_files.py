"""Reading TFLite files: every cut and every spoilt byte is refused by name or read to the end."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.formats import tflite_analysis
from agent.formats.tflite import NotTflite, TfliteFile, TfliteOperator, TfliteTensor, read

TFLITE = Path(__file__).parents[2] / "fixtures" / "tflite"


def graph_of(name: str) -> TfliteFile:
    return read(TFLITE / f"{name}.tflite")


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "kind"),
    [
        ("free", "NCHW", "", "fp32"),
        ("nhwc", "NHWC", "", "fp32"),
        ("picture", "NHWC", "NHWC", "fp32"),
        ("fp16", "NHWC", "", "fp16"),
        ("int8", "NHWC", "", "int8"),
        ("uint8", "NHWC", "", "int8"),
        ("two", "", "", "fp32"),
        ("edgetpu", "", "", "int8"),
    ],
)
def test_what_the_graph_tells(name: str, inputs: str, outputs: str, kind: str) -> None:
    graph = graph_of(name)
    assert tflite_analysis.input_layout(graph, graph.inputs[0]) == inputs
    assert tflite_analysis.output_layout(graph, graph.outputs[0]) == outputs
    assert tflite_analysis.kind(graph) == kind


def test_shapes_and_names_are_the_authors() -> None:
    graph = graph_of("two")
    assert (graph.input_names, graph.output_names) == (("b", "a"), ("add", "sub"))
    free = graph_of("free")
    assert free.tensors[free.inputs[0]].shape == (-1, 3, 6, 6)
    assert [op.name for op in graph_of("custom").operators] == ["Frobnicate"]


@given(st.data())
def test_no_cut_or_spoilt_file_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "m.tflite"
    whole = bytearray((TFLITE / "int8.tflite").read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(8, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(NotTflite):
        graph = read(path)
        for tensor in (*graph.inputs, *graph.outputs):
            tflite_analysis.input_layout(graph, tensor)
            tflite_analysis.output_layout(graph, tensor)
        tflite_analysis.precision(graph)
        tflite_analysis.float_operators(graph)


def test_many_branches_are_followed_once() -> None:
    """Each tensor goes into two operators: naively 2⁶⁰ ways."""
    count = 60
    tensors = [TfliteTensor(f"t{n}", "float32", (1, 4, 4, 2), 0, b"") for n in range(count + 1)]
    pairs = [op for n in range(count) for op in (TfliteOperator("ADD", (n, n), (n + 1,)),) * 2]
    graph = TfliteFile(tuple(tensors), tuple(pairs), (0,), (count,), (), ())
    assert tflite_analysis.input_layout(graph, 0) == ""
    loop = TfliteFile(
        tuple(tensors[:2]), (TfliteOperator("ADD", (0, 1), (1, 0)),), (0,), (1,), (), ()
    )
    assert tflite_analysis.output_layout(loop, 1) == ""


@pytest.mark.parametrize(
    ("activations", "weights", "kind", "precision"),
    [
        (("float32", "float32"), "int8", "dynamic_range", "int8"),
        (("int8", "float32"), "int8", "mixed", "int8"),
        (("int8", "int8"), "int8", "int8", "int8"),
        (("float32", "float32"), "float32", "fp32", "fp32"),
    ],
)
def test_all_that_computes_on_integers_is_filed_under_int8(
    activations: tuple[str, str], weights: str, kind: str, precision: str
) -> None:
    tensors = (
        TfliteTensor("x", "float32", (1, 4), 0, b""),
        TfliteTensor("w", weights, (4, 4), 16, b""),
        *(TfliteTensor(f"y{n}", dtype, (1, 4), 0, b"") for n, dtype in enumerate(activations)),
    )
    operators = tuple(TfliteOperator("FULLY_CONNECTED", (n, 1, -1), (n + 2,)) for n in (0, 1))
    graph = TfliteFile(tensors, operators, (0,), (3,), (), ())
    assert (tflite_analysis.kind(graph), tflite_analysis.precision(graph)) == (kind, precision)
