"""The walk that finds layouts, on graphs of plain names: every format's adapter gives it steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.formats.layouts import Step, input_layout, output_layout

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def steps(graph: dict[str, list[Step]], tensor: str) -> Iterator[Step]:
    yield from graph.get(tensor, [])


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({}, ""),
        ({"x": [Step("NHWC")]}, "NHWC"),
        ({"x": [Step(tensor="y"), Step(tensor="z")], "z": [Step("NCHW")]}, "NCHW"),
        ({"x": [Step("NHWC"), Step("NCHW")]}, ""),
        ({"x": [Step(tensor="y", order=TO_NCHW)], "y": [Step("NCHW")]}, "NHWC"),
        ({"x": [Step(tensor="y", order=TO_NHWC)], "y": [Step("NCHW")]}, ""),
        ({"x": [Step(tensor="y")], "y": [Step(tensor="x"), Step("NHWC")]}, "NHWC"),
        ({"x": [Step(tensor="x")]}, ""),
    ],
    ids=[
        *("nothing tells", "an operator tells", "through others", "they contradict"),
        *("transposed to it", "transposed from it", "a cycle that tells", "a cycle"),
    ],
)
def test_an_inputs_layout(graph: dict[str, list[Step]], found: str) -> None:
    assert input_layout("x", lambda tensor: steps(graph, tensor)) == found


def test_an_output_is_followed_against_the_direction() -> None:
    graph = {"y": [Step(tensor="c", order=TO_NHWC)], "c": [Step("NCHW")]}
    assert output_layout("y", lambda tensor: steps(graph, tensor)) == "NHWC"


def test_a_chain_longer_than_the_limit_is_unknown_and_does_not_exhaust_the_stack() -> None:
    chain = {str(n): [Step(tensor=str(n + 1))] for n in range(5_000)}
    chain["5000"] = [Step("NHWC")]
    assert input_layout("0", lambda tensor: steps(chain, tensor)) == ""
    assert input_layout("0", lambda tensor: steps(chain, tensor), most=6_000) == "NHWC"
