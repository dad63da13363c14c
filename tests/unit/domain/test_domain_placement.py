"""Placement's every reason to skip, selectors, device classes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.contract.device import DeviceFacts, RuntimeFacts, TargetFacts
from orchestrator.domain import selectors
from orchestrator.domain.device_class import DeviceClass, recognise
from orchestrator.domain.errors import UserError
from orchestrator.domain.matrix import Configuration
from orchestrator.domain.placement import PlacementDevice, PlacementModel, chosen, distinct, place
from orchestrator.domain.spec import DeviceChoice
from orchestrator.store.device_class_files import device_classes
from support.farms import TOOLS, device_facts, runtime_facts

LABELS = {"name": "board", "class": "intel-cpu"}
BOARD = PlacementDevice("board", LABELS, True, runtime_facts(), TOOLS)
ONNX, PT2 = ("onnx", "fp32"), ("pt2", "fp32")
CELL = Configuration("m", "onnxruntime", "", "CPU", "fp32", 0, 1)
MODEL = PlacementModel("m", (ONNX,), free_batch=False, has_calibration=False)


def test_a_cell_that_fits_gets_its_format_and_version() -> None:
    placed = place(BOARD, CELL, MODEL)
    assert (placed.skip, placed.format, placed.version) == ("", "onnx", "1.31.1")
    assert (placed.device, placed.configuration) == ("board", CELL)


def test_the_runtime_says_which_of_a_models_formats_it_prefers() -> None:
    cpu = (TargetFacts("CPU", ("fp32",)),)
    facts = RuntimeFacts("torch", "2", "e", cpu, ("pt2", "onnx"), wants={"fp32": (PT2, ONNX)})
    device = replace(BOARD, runtimes=(facts,))
    both = replace(MODEL, sources=(ONNX, PT2))
    cell = replace(CELL, backend="torch")
    assert place(device, cell, both).format == "pt2"
    assert place(device, cell, MODEL).format == "onnx"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"backend": "tensorrt"}, "the agent there knows no backend 'tensorrt'"),
        ({"backend": "pytorch"}, "pytorch: torch is not installed"),
        ({"version": "1.0"}, "onnxruntime 1.0 is not there (it has 1.31.1)"),
        ({"target": "NPU"}, "onnxruntime has no target NPU here (it has CPU)"),
        ({"precision": "fp16"}, "onnxruntime on CPU has no fp16 here (it has fp32, int8)"),
        (
            {"options": (("level", 1),)},
            "onnxruntime has no option 'level' (it has graph_optimization)",
        ),
        (
            {"options": (("graph_optimization", "max"),)},
            "option graph_optimization: 'max' is not one of all, disabled",
        ),
        ({"batch_size": 2}, "batch"),
        ({"precision": "int8", "calibration": "dataset"}, "calibration: random"),
    ],
)
def test_why_a_cell_is_skipped(change: dict[str, object], reason: str) -> None:
    placed = place(BOARD, replace(CELL, **change), MODEL)  # type: ignore[arg-type]
    assert reason in placed.skip
    assert (placed.format, placed.version) == ("", "")


def test_a_disabled_device_runs_nothing() -> None:
    assert "benchfarm device enable" in place(replace(BOARD, enabled=False), CELL, MODEL).skip


def test_a_device_that_never_ran_is_told_from_one_without_the_backend() -> None:
    assert "benchfarm-agent run" in place(replace(BOARD, runtimes=()), CELL, MODEL).skip


def test_without_a_converter_the_tool_that_is_missing_is_named() -> None:
    placed = place(BOARD, CELL, replace(MODEL, sources=(PT2,)))
    assert placed.skip == (
        "model m is there as pt2; onnxruntime takes onnx in fp32: board lacks a tool: "
        "torch_onnx needs torch, onnxscript (`benchfarm-agent runtimes add pytorch` there); no "
        "other device is tagged as a builder (`benchfarm device tag NAME builder=yes`)"
    )


def test_without_any_way_the_formats_are_named() -> None:
    placed = place(BOARD, CELL, replace(MODEL, sources=(("tflite", "int8"),)))
    assert placed.skip == (
        "model m is there as tflite in int8; onnxruntime takes onnx in fp32: "
        "no converter leads there; it would go with another file of the model: the onnx itself; or "
        "from pt2 by torch_onnx (lacks torch, onnxscript: `benchfarm-agent runtimes add pytorch`)"
    )


def test_a_converter_on_the_way_brings_a_format_and_its_options() -> None:
    tools = (*TOOLS[:3], replace(TOOLS[3], missing=()))
    board = replace(BOARD, tools=tools)
    exported = replace(MODEL, sources=(PT2,), has_calibration=True)
    assert place(board, CELL, exported).format == "pt2"
    int8 = replace(CELL, precision="int8", calibration="dataset")
    int8 = replace(int8, options=(("per_channel", "on"),))
    assert place(board, int8, exported).skip == ""
    assert "no option 'per_channel'" in place(board, replace(int8, precision="fp32"), exported).skip


def test_the_format_to_load_and_the_converters_may_be_chosen() -> None:
    cell = replace(CELL, backend="openvino", precision="fp16")
    assert place(BOARD, replace(cell, format="openvino_ir", via="openvino_fp16"), MODEL).skip == ""
    refused = place(BOARD, replace(cell, format="onnx"), MODEL).skip
    assert refused == "openvino loads no onnx in fp16 (it loads openvino_ir)"
    refused = place(BOARD, replace(cell, via="nncf_quantize"), MODEL).skip
    assert "through nncf_quantize: no converter leads there" in refused


def test_calibration_is_asked_for_only_where_it_is_the_data_sets() -> None:
    int8 = replace(CELL, precision="int8")
    assert place(BOARD, replace(int8, calibration="random"), MODEL).skip == ""
    with_data = replace(MODEL, has_calibration=True)
    assert place(BOARD, replace(int8, calibration="dataset"), with_data).skip == ""


def test_an_option_without_listed_values_takes_any() -> None:
    cell = replace(
        CELL, backend="openvino", options=(("tag", 3.5), ("performance_hint", "latency"))
    )
    assert place(BOARD, cell, MODEL).skip == ""


def test_the_version_asked_for_is_found_among_several() -> None:
    old = replace(runtime_facts()[0], version="1.17.0")
    device = replace(BOARD, runtimes=(*runtime_facts(), old))
    assert place(device, replace(CELL, version="1.17.0"), MODEL).version == "1.17.0"
    assert place(device, replace(CELL, version="1.17"), MODEL).version == "1.17.0"
    assert place(device, replace(CELL, version="1"), MODEL).version == "1.31.1"
    assert place(device, CELL, MODEL).version == "1.31.1"
    why = place(device, replace(CELL, version="9"), MODEL).skip
    assert "(it has 1.31.1, 1.17.0)" in why
    assert "benchfarm-agent runtimes add onnxruntime==9" in why


def test_each_version_is_judged_by_its_own_facts() -> None:
    target = TargetFacts("CPU", ("fp32",))
    old = replace(runtime_facts()[0], version="1.17.0", targets=(target,))
    device = replace(BOARD, runtimes=(*runtime_facts(), old))
    int8 = replace(CELL, precision="int8", calibration="random")
    assert place(device, int8, MODEL).skip == ""
    assert "no int8" in place(device, replace(int8, version="1.17"), MODEL).skip


def test_what_means_the_same_version_is_run_once() -> None:
    cells = [replace(CELL, version=v) for v in ("", "1", "1.31.1", "9", "8")]
    placed = distinct(place(BOARD, cell, MODEL) for cell in cells)
    assert [(p.configuration.version, p.version) for p in placed] == [
        ("", "1.31.1"),
        ("9", ""),
        ("8", ""),
    ]


def test_devices_are_chosen_by_name_and_by_label() -> None:
    devices = [
        replace(BOARD, name=name, labels={"name": name, "class": kind})
        for name, kind in (("c", "x"), ("a", "x"), ("b", "y"))
    ]

    def names(**choice: object) -> list[str]:
        return [d.name for d in chosen(devices, DeviceChoice.model_validate(choice))]

    assert names() == ["a", "b", "c"]
    assert names(names=["c", "b"]) == ["b", "c"]
    assert names(select={"class": "x"}) == ["a", "c"]
    assert names(names=["b"], select={"class": "x"}) == []
    assert names(select={"class": "x", "name": "a"}) == ["a"]
    assert names(select={"rack": ""}) == []


def test_selectors() -> None:
    assert selectors.parse(["class=x", " rack = a=b "]) == {"class": "x", "rack": "a=b"}
    assert selectors.parse([]) == {}
    assert selectors.matches({}, {"class": "x"})
    assert not selectors.matches({"rack": ""}, {"class": "x"})


@pytest.mark.parametrize("pair", ["class", "", "=x", " =x"])
def test_a_selector_that_selects_nothing_is_refused(pair: str) -> None:
    with pytest.raises(UserError, match="expected KEY=VALUE"):
        selectors.parse([pair])


@pytest.mark.parametrize(
    ("machine", "cpu_model", "expected"),
    [
        ("x86_64", "Intel(R) Xeon(R) Platinum 8481C", "intel-cpu"),
        ("x86_64", "AMD EPYC 7B13", "x86-64-generic"),
        ("x86_64", None, "x86-64-generic"),
        ("aarch64", "Cortex-A76", "arm64-generic"),
        ("riscv64", "Intel", "unknown"),
    ],
)
def test_the_shipped_classes_recognise(machine: str, cpu_model: str | None, expected: str) -> None:
    facts = replace(device_facts(), machine=machine, cpu_model=cpu_model)
    assert recognise(device_classes(), facts) == expected


def test_the_most_particular_class_wins_and_one_that_asks_nothing_never_does() -> None:
    facts: DeviceFacts = device_facts()

    def of(name: str, priority: int, **recognise: str) -> DeviceClass:
        fields = {"name": name, "title": "", "priority": priority, "recognise": recognise}
        return DeviceClass.model_validate(fields)

    plain, empty = of("plain", 0, machine="x86"), of("empty", 9)
    special = of("special", 5, machine="x86", cpu_model="i7")
    assert recognise([empty, special, plain], facts) == "special"
    assert recognise([plain, empty], facts) == "plain"
    assert recognise([empty], facts) == "unknown"


def test_yamls_on_and_off_are_meant_as_written() -> None:
    facts = replace(runtime_facts()[0], options={"cache": ("off", "on"), "fast": ("true", "false")})
    device = replace(BOARD, runtimes=(facts,))
    for options in ((("cache", True),), (("cache", False),), (("fast", True),)):
        assert place(device, replace(CELL, options=options), MODEL).skip == ""
