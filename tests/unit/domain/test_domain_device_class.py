"""Device classes: each recognises its own boards and no other's, and says only what there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from agent.contract.device import Accelerator, DeviceFacts
from agent.contract.trial import Limits
from agent.runtimes import registry
from agent.telemetry.registry import SOURCES
from agent.worker.environments import recipes
from orchestrator.domain.device_class import DeviceClass, Fact, Telemetry, VendorRuntime, recognise
from orchestrator.domain.errors import UserError
from orchestrator.store.device_class_files import device_classes, read_classes

CLASSES = {c.name: c for c in device_classes()}
H100 = Accelerator("nvidia_gpu", "NVIDIA H100 PCIe", "pci")
IRIS = Accelerator("intel_gpu", "Intel Arc Graphics", "pci")
NPU = Accelerator("intel_npu", "Intel AI Boost", "pci")
STICK = Accelerator("edgetpu", "Coral USB Accelerator", "usb")
M2 = Accelerator("edgetpu", "Coral M.2 Accelerator", "pci")
DLA = Accelerator("dla", "DLA0", "soc")
XEON = "Intel(R) Xeon(R) Platinum 8481C"
ULTRA = "Intel(R) Core(TM) Ultra 7 155H"


def facts(
    machine: str, model: str = "", cpu: str = "", soc: str = "", *has: Accelerator
) -> DeviceFacts:
    plain = DeviceFacts(hostname="x", machine=machine, system="Linux", python="3.12")
    return replace(plain, model=model, cpu_model=cpu, soc=soc, accelerators=has)


def example(given: Mapping[Fact, str]) -> DeviceFacts:
    """The facts of a board that a class gives as an example of its own."""
    lines = given.get("accelerators", "").splitlines()
    has = (Accelerator(kind, name, bus) for kind, bus, name in (x.split(" ", 2) for x in lines))
    return facts(
        *(given.get("machine", ""), given.get("model", "")),
        *(given.get("cpu_model", ""), given.get("soc", "")),
        *has,
    )


def tegra(model: str, soc: str) -> DeviceFacts:
    gpu = Accelerator("nvidia_gpu", f"{soc} GPU", "soc")
    return facts("aarch64", model, "ARM Cortex-A78AE", soc, gpu, DLA)


BOARDS: list[tuple[str, DeviceFacts]] = [
    ("jetson-nano", tegra("NVIDIA Jetson Nano Developer Kit", "tegra210")),
    ("jetson-nano", tegra("NVIDIA Jetson Nano 2GB Developer Kit", "tegra210")),
    ("jetson-tx2", tegra("quill", "tegra186")),
    ("jetson-tx2", tegra("lanai-3636", "tegra186")),
    ("jetson-tx2", tegra("NVIDIA Jetson TX2 Developer Kit", "")),
    ("jetson-xavier-nx", tegra("NVIDIA Jetson Xavier NX Developer Kit", "tegra194")),
    ("jetson-agx-xavier", tegra("Jetson-AGX", "tegra194")),
    ("jetson-agx-xavier", tegra("NVIDIA Jetson AGX Xavier Developer Kit", "tegra194")),
    ("jetson-orin-nano", tegra("NVIDIA Jetson Orin Nano Developer Kit", "tegra234")),
    (
        "jetson-orin-nano",
        tegra("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "tegra234"),
    ),
    ("jetson-agx-orin", tegra("NVIDIA Jetson AGX Orin Developer Kit", "tegra234")),
    ("jetson-thor", tegra("NVIDIA Jetson AGX Thor Developer Kit", "tegra264")),
    ("jetson-thor", tegra("a carrier board of another maker", "tegra264")),
    ("intel-cpu", facts("x86_64", "", XEON)),
    ("intel-cpu", facts("x86_64", "LENOVO 20XW", "11th Gen Intel(R) Core(TM) i7", "", IRIS)),
    ("intel-laptop", facts("x86_64", "LENOVO 21KC", ULTRA, "", IRIS, NPU)),
    ("coral-usb", facts("x86_64", "", XEON, "", STICK)),
    ("coral-usb", facts("aarch64", "Raspberry Pi 4 Model B", "ARM Cortex-A72", "", STICK)),
    ("coral-usb", facts("x86_64", "", ULTRA, "", IRIS, NPU, STICK)),
    ("coral-pcie", facts("x86_64", "", XEON, "", M2)),
    ("coral-pcie", facts("x86_64", "", XEON, "", STICK, M2)),
    ("coral-dev-board", facts("aarch64", "Freescale i.MX8MQ Phanbell", "", "imx8mq", M2)),
    ("raspberry-pi", facts("aarch64", "Raspberry Pi 5 Model B Rev 1.0", "ARM Cortex-A76")),
    ("arm64-generic", facts("aarch64", "Radxa ROCK 5B", "ARM Cortex-A76")),
    ("cloud-gpu", facts("x86_64", "Google Compute Engine", XEON, "", H100)),
    ("cloud-gpu", facts("x86_64", "", "AMD EPYC 7B13", "", H100)),
    ("grace-gpu", facts("aarch64", "", "ARM Neoverse-V2", "", replace(H100, name="GH200"))),
    ("x86-64-generic", facts("x86_64", "", "AMD EPYC 7B13")),
    ("unknown", facts("riscv64", "SiFive", "Intel?")),
    *((c.name, example(given)) for c in CLASSES.values() for given in c.examples),
]


@pytest.mark.parametrize(("expected", "board"), BOARDS, ids=lambda v: getattr(v, "model", v))
def test_a_board_is_of_one_class_and_priorities_leave_no_choice(
    expected: str, board: DeviceFacts
) -> None:
    assert recognise(CLASSES.values(), board) == expected
    fitting = [c for c in CLASSES.values() if c.fits(board)]
    first = sorted((c.priority for c in fitting), reverse=True)[:2]
    assert len(set(first)) == len(first), [c.name for c in fitting]


def test_every_class_has_an_example_among_its_own_or_above() -> None:
    assert {name for name, _ in BOARDS} == {*CLASSES, "unknown"}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_a_class_names_exists(name: str) -> None:
    found = CLASSES[name]
    given = {r.name for r in found.runtimes if isinstance(r, VendorRuntime)}
    for text in (r for r in found.runtimes if isinstance(r, str)):
        for machine in ("x86_64", "aarch64"):
            given.add(recipes.parse(text, machine).backend)
    assert given
    assert given | set(found.targets) | {found.health.backend or "onnxruntime"} <= {
        *registry.RUNTIMES
    }
    assert set(found.targets) <= given
    assert found.health.backend in {"", *given}
    assert found.telemetry


def test_the_telemetry_a_class_may_name_is_what_the_agent_has() -> None:
    assert sorted(get_args(Telemetry)) == sorted(SOURCES)


def test_a_board_that_answers_with_less_than_expected_is_told_line_by_line() -> None:
    xavier = CLASSES["jetson-xavier-nx"]
    whole: Mapping[str, Mapping[str, tuple[str, ...]]] = {
        "tflite": {"CPU": ("fp32", "int8")},
        "tensorrt": dict.fromkeys(("GPU", "DLA0", "DLA1"), ("fp32", "fp16", "int8")),
    }
    assert xavier.lacking(whole) == []
    orin = CLASSES["jetson-agx-orin"]
    assert orin.lacking({"tensorrt": {"GPU": ("fp32",), "DLA0": ("fp16", "int8")}}) == [
        "onnxruntime does not answer",
        "tensorrt on GPU lacks fp16, int8",
        "tensorrt has no DLA1",
    ]


def test_a_class_bounds_a_trial_where_the_sweep_says_nothing_and_memory_always() -> None:
    nano, plain = CLASSES["jetson-nano"].limits, CLASSES["x86-64-generic"].limits
    assert nano.bound(Limits(), (), 3964.0) == Limits(1800.0, 600.0, int(0.6 * 3964))
    said = Limits(60.0, 30.0, 512)
    assert nano.bound(said, ("convert_s", "trial_s", "memory_mib"), 3964.0) == said
    assert nano.bound(said, ("convert_s",), None) == Limits(60.0, 600.0, 512)
    assert plain.bound(Limits(), (), 1000.0) == Limits()


def test_the_interpreter_of_an_environment_is_named_after_it_is_built() -> None:
    vendor = {"name": "tensorrt", "python": "tflite"}
    fields = {"name": "x", "title": "", "runtimes": ["tflite@litert==2.3.0", vendor]}
    assert DeviceClass.model_validate(fields).runtimes[1] == VendorRuntime(
        name="tensorrt", python=("tflite",)
    )
    with pytest.raises(ValidationError, match="'tflite', which is not built before it"):
        DeviceClass.model_validate({**fields, "runtimes": [vendor, "tflite"]})


GOOD = """\
name: toaster
title: A toaster
recognise: {model: "toaster"}
runtimes:
  - onnxruntime
telemetry: [thermal]
power:
  modes: [LOW, HIGH]
  query: [/usr/bin/toast, -q]
  select: [/usr/bin/toast, "{name}"]
"""


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("[thermal]", "[thermometer]", r"toaster.yaml:6: telemetry\.0: .*'tegrastats'"),
        ("title: A toaster\n", "", r"toaster.yaml:1: key 'title' is missing"),
        (
            "telemetry:",
            "telemetri:",
            r"^toaster.yaml:6: unknown key 'telemetri' \(did you mean 'telemetry'\?\); acc",
        ),
        ('"toaster"', '"("', r"^toaster.yaml:3: recognise: '\(' is no regular expression"),
        (
            "recognise: {model",
            "recognise: {colour",
            r"^toaster.yaml:3: recognise.*colour.*'machine'",
        ),
        ("/usr/bin/toast, -q", "toast, -q", r"^toaster.yaml:9: power.query: 'toast': .*whole path"),
        ("-q]", '"-q; reboot"]', r"^toaster.yaml:9: power.query: '-q; reboot': expected letters"),
        ('"{name}"', "LOW", r"^toaster.yaml:7: power: select: expected \{id\} or \{name\}"),
        ('"{name}"', '"{id}"', r"^toaster.yaml:7: power: \{id\} in select goes with a listing"),
        ("[LOW, HIGH]", '["LOW HIGH"]', r"^toaster.yaml:8: power\.modes\.0: .*pattern"),
        (
            "name: toaster",
            "name: kettle",
            r"^toaster.yaml:1: name: 'kettle': expected the file's own name",
        ),
        (
            "  - onnx",
            "  - name: onnx\n    pyton: /x #",
            r"toaster.yaml:6: unknown key 'runtimes\.0\.pyton' \(did you mean 'python'\?\); acc",
        ),
        ("[thermal]", "[thermal", r"toaster.yaml:7: .*expected ',' or '\]'"),
        (
            "telemetry:",
            "title: T\ntelemetry:",
            r"^toaster.yaml:6: key 'title' is given twice, first on",
        ),
        ("[LOW, HIGH]", "&a [LOW, HIGH]\n  needs_reboot: *a", r"^toaster.yaml:9: .*aliases"),
        ("name: toaster", "- toaster", r"^toaster.yaml:2: not YAML"),
    ],
)
def test_a_mistake_in_a_class_file_is_named_by_file_line_and_key(
    was: str, becomes: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "toaster.yaml"
    path.write_text(GOOD)
    assert [c.name for c in read_classes([path])] == ["toaster"]
    path.write_text(GOOD.replace(was, becomes))
    with pytest.raises(UserError, match=said):
        read_classes([path])
