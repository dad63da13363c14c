"""Which TensorFlow graphs are not even loaded. Graphs are as protocol buffers present them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agent.contract.failures import BadModel
from agent.runtimes.tensorflow.graph_def import has_loops, refuse_unsafe

SAVE, CALL = "__inference__traced_save_12", "__inference_call_3"


def node(op: str, **attributes: Any) -> Any:
    values = {
        key: SimpleNamespace(
            s=value if isinstance(value, bytes) else b"",
            func=SimpleNamespace(name=value if isinstance(value, str) else ""),
        )
        for key, value in attributes.items()
    }
    return SimpleNamespace(op=op, name=op.lower(), input=[], attr=values)


def graph(*nodes: Any, **functions: list[Any]) -> Any:
    library = [
        SimpleNamespace(signature=SimpleNamespace(name=name), node_def=body)
        for name, body in functions.items()
    ]
    return SimpleNamespace(node=nodes, library=SimpleNamespace(function=library))


@pytest.mark.parametrize(
    ("unsafe", "operator"),
    [
        (graph(node("WriteFile")), "WriteFile"),
        (graph(node("Conv2D"), node("EagerPyFunc")), "EagerPyFunc"),
        (graph(**{CALL: [node("ReadFile")]}), "ReadFile"),
        (graph(node("SaveV2")), "SaveV2"),
        (graph(node("PrintV2", output_stream=b"file:///tmp/out")), "PrintV2"),
    ],
)
def test_what_touches_files_or_runs_other_code_is_refused(unsafe: Any, operator: str) -> None:
    with pytest.raises(BadModel, match=f"m holds the operator {operator}, which"):
        refuse_unsafe(unsafe, "m")


def test_an_ordinary_graph_is_taken() -> None:
    refuse_unsafe(graph(node("Conv2D"), node("PrintV2", output_stream=b"stderr")), "m")


def test_a_savedmodel_keeps_the_functions_that_save_and_restore_it() -> None:
    saving = {SAVE: [node("SaveV2"), node("MergeV2Checkpoints")]}
    refuse_unsafe(graph(node("StatefulPartitionedCall", f=SAVE), **saving), "m", savers=True)
    with pytest.raises(BadModel, match="SaveV2"):
        refuse_unsafe(graph(**saving), "m")


def test_a_saving_function_called_or_an_operator_elsewhere_is_refused() -> None:
    saving = {SAVE: [node("SaveV2")]}
    with pytest.raises(BadModel, match="calls its own saving function"):
        refuse_unsafe(
            graph(**saving, **{CALL: [node("PartitionedCall", f=SAVE)]}), "m", savers=True
        )
    with pytest.raises(BadModel, match="SaveV2"):
        refuse_unsafe(graph(**{CALL: [node("SaveV2")]}), "m", savers=True)


def test_loops_are_found_in_functions_too() -> None:
    assert has_loops(graph(**{CALL: [node("StatelessWhile", body=SAVE)]}))
    assert not has_loops(graph(node("Conv2D"), **{CALL: [node("If")]}))
