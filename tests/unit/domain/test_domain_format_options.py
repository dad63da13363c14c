"""Which forms of a model there are to measure on a device."""

from __future__ import annotations

from dataclasses import replace

from agent.contract.conversion_graph import Edge, Node, Tool
from agent.contract.device import RuntimeFacts, TargetFacts
from orchestrator.domain.format_options import FormatOption, forms, sweep
from orchestrator.domain.placement import PlacementDevice, PlacementModel
from orchestrator.domain.spec import parse

KERAS, SAVED, ONNX = ("keras", "fp32"), ("savedmodel", "fp32"), ("onnx", "fp32")
TVM: Node = ("tvm_library", "fp32")


def tool(name: str, source: Node, target: Node, cost: float = 1.0) -> Tool:
    return Tool(name, (Edge(name, source, target, cost),))


TOOLS = (
    tool("export", KERAS, SAVED),
    tool("tf2onnx", SAVED, ONNX),
    tool("keras_onnx", KERAS, ONNX, 2.5),
    tool("onnx_keras", ONNX, KERAS),
    tool("compile", ONNX, TVM),
)
CPU = (TargetFacts("CPU", ("fp32",)),)
ORT = RuntimeFacts("onnxruntime", "1", "", CPU, wants={"fp32": (ONNX,)})
RELAX = RuntimeFacts("tvm", "2", "", CPU, wants={"fp32": (TVM,)})
BOARD = PlacementDevice("board", {}, True, (ORT, RELAX, replace(ORT, missing="no")), TOOLS)
MODEL = PlacementModel("m", (KERAS,), free_batch=False, has_calibration=False)


def test_every_maker_of_a_format_is_a_form_of_its_own() -> None:
    found = [(f.backend, f.format, f.via) for f in forms(BOARD, MODEL, ["fp32"])]
    assert found == [
        ("onnxruntime", "onnx", ""),
        ("onnxruntime", "onnx", "keras_onnx"),
        ("tvm", "tvm_library", ""),
    ]


def test_a_file_that_is_there_and_what_is_made_anew_are_two_and_no_way_turns_back() -> None:
    both = replace(MODEL, sources=(ONNX, KERAS))
    vias = [f.via for f in forms(BOARD, both, ["fp32"]) if f.backend == "onnxruntime"]
    assert vias == ["", "keras_onnx", "tf2onnx"]
    only = replace(MODEL, sources=(ONNX,))
    assert [f.via for f in forms(BOARD, only, ["fp32"]) if f.backend == "onnxruntime"] == [""]


def test_tvm_is_tuned_where_a_budget_is_given() -> None:
    found = [f.tuning_trials for f in forms(BOARD, MODEL, ["fp32"], 8) if f.backend == "tvm"]
    assert found == [0, 8]


def test_what_a_target_does_not_compute_is_left_out() -> None:
    assert forms(BOARD, MODEL, ["int8"]) == []


def test_they_become_a_sweep_that_the_parser_takes() -> None:
    found = [
        FormatOption("onnxruntime", "1.30", "CPU", "fp32", "onnx", "tf2onnx"),
        FormatOption("tvm", "0.27", "CPU", "fp32", "tvm_library", tuning_trials=8),
    ]
    spec = parse(sweep("s", "board", "m", found, 3), "generated")
    first, second = spec.runtimes
    assert (first.version, first.format, first.via) == (["1.30"], ["onnx"], ["tf2onnx"])
    assert second.options == {"tuning": ["metaschedule"], "tuning_trials": [8]}
    assert (spec.trials, spec.devices.names) == (3, ["board"])
