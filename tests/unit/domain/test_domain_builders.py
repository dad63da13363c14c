"""Which device converts for another: only where that one cannot, by what is good elsewhere."""

from __future__ import annotations

from dataclasses import replace

from agent.contract.conversion_graph import Edge, Node, Tool
from agent.contract.device import RuntimeFacts, TargetFacts
from orchestrator.domain.builders import BuilderDevice, is_builder
from orchestrator.domain.matrix import Configuration
from orchestrator.domain.placement import PlacementDevice, PlacementModel, place

KERAS: Node = ("keras", "fp32")
LITE, QUANTISED, TPU = ("tflite", "fp32"), ("tflite", "int8"), ("edgetpu_tflite", "int8")
EXPORT = Tool(
    "export", (Edge("export", KERAS, LITE, 1.0, "tf"),), "tf", options={"depth": ("1", "2")}
)
QUANTISE = Tool(
    "quantise",
    (Edge("quantise", LITE, QUANTISED, 1.0, "tf"),),
    "tf",
    needs_calibration=True,
    options={"per_channel": ("on", "off")},
)
COMPILE = Tool("compile", (Edge("compile", QUANTISED, TPU, 1.0, "default"),), "default")
ENGINE = Tool("engine", (Edge("engine", QUANTISED, ("engine", "int8")),), where=("device",))
ALL = (EXPORT, QUANTISE, COMPILE)


def lacking(tool: Tool, *missing: str) -> Tool:
    return replace(tool, missing=missing)


TARGET = TargetFacts("TPU", (), runs=("int8",))
FACTS = RuntimeFacts(
    "edgetpu",
    "16.0",
    "default",
    (TARGET,),
    wants={"int8": (TPU,)},
    options={"usb": ("max",), "depth": ()},
)
CORAL = PlacementDevice(
    "coral",
    {"name": "coral"},
    True,
    (FACTS,),
    (lacking(EXPORT, "tensorflow"), lacking(QUANTISE, "tensorflow"), lacking(COMPILE, "compiler")),
)
CELL = Configuration("m", "edgetpu", "", "TPU", "int8", 0, 1, calibration="random")
MODEL = PlacementModel("m", (KERAS,), free_batch=False, has_calibration=False)
X86 = BuilderDevice("x86-01", ALL)


def test_a_device_that_cannot_is_helped_by_a_builder() -> None:
    placed = place(CORAL, CELL, MODEL, [X86])
    assert placed.skip == ""
    assert placed.build is not None
    assert (placed.build.builder, placed.build.node) == ("x86-01", TPU)
    assert placed.build.via == ("export", "quantise", "compile")
    assert placed.build.rest == ()
    assert (
        placed.build.described == "x86-01: keras → tflite → tflite in int8 → edgetpu_tflite in int8"
    )
    assert (placed.format, placed.version) == ("keras", "16.0")


def test_a_devices_own_way_is_taken_however_dear() -> None:
    dear = replace(COMPILE, edges=(Edge("compile", QUANTISED, TPU, 99.0, "default"),))
    able = replace(CORAL, tools=(EXPORT, QUANTISE, dear))
    placed = place(able, CELL, MODEL, [X86])
    assert (placed.skip, placed.build) == ("", None)


def test_a_device_does_what_it_can_itself() -> None:
    able = replace(CORAL, tools=(lacking(EXPORT, "tensorflow"), QUANTISE, COMPILE))
    build = place(able, CELL, MODEL, [X86]).build
    assert build is not None
    assert (build.via, build.node) == (("export",), LITE)
    assert [edge.converter for edge in build.rest] == ["quantise", "compile"]


def test_the_cheapest_builder_wins_and_its_name_breaks_a_tie() -> None:
    dear = replace(EXPORT, edges=(Edge("export", KERAS, LITE, 5.0, "tf"),))
    others = [
        BuilderDevice("c", ALL),
        BuilderDevice("b", ALL),
        BuilderDevice("a", (dear, QUANTISE, COMPILE)),
    ]
    for order in (others, others[::-1]):
        build = place(CORAL, CELL, MODEL, order).build
        assert build is not None
        assert build.builder == "b"


def test_one_that_is_not_ready_builds_only_where_no_other_can() -> None:
    off = BuilderDevice("a", ALL, ready=False)
    assert (found := place(CORAL, CELL, MODEL, [off, X86]).build) is not None
    assert found.builder == "x86-01"
    unable = replace(X86, tools=(EXPORT,))
    assert (found := place(CORAL, CELL, MODEL, [off, unable]).build) is not None
    assert found.builder == "a"


def test_a_device_is_no_builder_for_itself() -> None:
    placed = place(CORAL, CELL, MODEL, [replace(X86, name="coral")])
    assert "no other device is tagged as a builder" in placed.skip


def test_what_is_specific_to_a_machine_is_never_made_elsewhere() -> None:
    facts = replace(FACTS, wants={"int8": (("engine", "int8"),)})
    device = replace(CORAL, runtimes=(facts,), tools=(lacking(ENGINE, "tensorrt"),))
    placed = place(device, CELL, MODEL, [BuilderDevice("x86-01", (*ALL, ENGINE))])
    assert placed.skip == (
        "model m is there as keras; edgetpu takes engine in int8: coral has no way there "
        "(`benchfarm-agent runtimes add` there); builder x86-01 cannot help: what is missing can "
        "only be made on the device that runs it"
    )
    able = replace(device, tools=(ENGINE,))
    build = place(able, CELL, MODEL, [BuilderDevice("x86-01", (*ALL, ENGINE))]).build
    assert build is not None
    assert (build.node, [e.converter for e in build.rest]) == (QUANTISED, ["engine"])


def test_where_nobody_can_the_tool_that_is_missing_is_named_on_each() -> None:
    unable = [
        BuilderDevice("a", (EXPORT, QUANTISE, lacking(COMPILE, "edgetpu_compiler"))),
        BuilderDevice("b", (lacking(EXPORT, "tensorflow"), QUANTISE, COMPILE)),
    ]
    assert place(CORAL, CELL, MODEL, unable).skip == (
        "model m is there as keras; edgetpu takes edgetpu_tflite in int8: coral lacks a tool: "
        "export needs tensorflow; quantise needs tensorflow; compile needs compiler "
        "(`benchfarm-agent runtimes add` there); builder a lacks a tool: compile needs "
        "edgetpu_compiler; builder b lacks a tool: export needs tensorflow"
    )
    assert "no other device is tagged as a builder" in place(CORAL, CELL, MODEL).skip


def test_where_no_converter_is_known_nobody_is_asked() -> None:
    model = replace(MODEL, sources=(("pt2", "fp32"),))
    skip = place(CORAL, CELL, model, [X86]).skip
    assert "no converter leads there; it would go with another file of the model: " in skip
    assert "from tflite in int8 by compile" in skip


def test_options_go_to_whoever_reads_them() -> None:
    options = (("depth", 1), ("per_channel", "on"), ("usb", "max"))
    placed = place(CORAL, replace(CELL, options=options), MODEL, [X86])
    assert placed.build_options == {"depth": 1, "per_channel": "on"}
    assert placed.options == {"depth": 1, "usb": "max"}, "what both read goes to both"
    wrong = place(CORAL, replace(CELL, options=(("depth", 3),)), MODEL, [X86])
    assert wrong.skip == "option depth: 3 is not one of 1, 2"


def test_a_builder_needs_calibration_data_like_a_device() -> None:
    placed = place(CORAL, replace(CELL, calibration="dataset"), MODEL, [X86])
    assert "calibration: random" in placed.skip


def test_a_precision_that_the_runtime_lacks_is_no_matter_of_tools() -> None:
    placed = place(CORAL, replace(CELL, precision="fp32"), MODEL, [X86])
    assert placed.skip == "edgetpu on TPU has no fp32 here (it has int8)"


def test_only_an_enabled_device_that_is_tagged_is_a_builder() -> None:
    assert is_builder({"builder": "yes"}, enabled=True)
    assert not is_builder({"builder": "yes"}, enabled=False)
    assert not is_builder({"builder": "no"}, enabled=True)
    assert not is_builder({}, enabled=True)


def test_what_is_made_for_one_architecture_is_offered_to_boards_of_it_alone() -> None:
    cross = Tool("cross", (Edge("cross", KERAS, TPU),), where=("builder:aarch64",))
    for machine, helped in (("aarch64", True), ("x86_64", False)):
        placed = place(
            replace(CORAL, machine=machine), CELL, MODEL, [BuilderDevice("x86-02", (cross,))]
        )
        assert (placed.build is not None) is helped
        assert ("builder x86-02" in placed.skip) is not helped
