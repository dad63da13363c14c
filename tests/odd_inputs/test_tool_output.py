"""What vendors' tools print besides their values, and exit codes that still carry data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent import facts
from agent.contract.failures import BadOutput, RuntimeMissing
from agent.runtimes.edgetpu import backend as edgetpu
from agent.runtimes.tensorrt import trtexec_output
from agent.telemetry.registry import read_all
from support.board_files import JETSON, tool, tree

CARD = "Model: \t\t NVIDIA H100 80GB HBM3\nBus Location: \t 0000:17:00.0\n"
SLOTS = ("0000:17:00.0", "0000:5e:00.0")
WARNING = "WARNING: infoROM is corrupted at gpu 0000:5E:00.0"
LOST = "Unable to determine the device handle for GPU0000:17:00.0: GPU is lost.  Reboot the system"
JETPACK_3 = (
    "RAM 1023/3983MB (lfb 405x4MB) cpu [12%,off,3%,-]@1428 EMC 3%@408 AVP 0%@12 NVDEC 268 MSENC"
    " 268 GR3D 7%@76 EDP limit 0"
)


def smi(*, before: str = "", after: str = "", ends: int = 0, lost: bool = False) -> str:
    """A shell script that answers as nvidia-smi for two cards, among other lines."""
    rows = {
        "index,temp": ("0, 31, 71.42, 1980, 2619, 7, 529", "1, 45, [N/A], 1200, ERR!, 0, 10"),
        "index,clocks": ("0, 0x0000000000000024", "1, [Not Supported]"),
        "pci.bus_id": ("00000000:17:00.0, 81559, 9.0", "00000000:5E:00.0, 81559, 9.0"),
    }
    cases = "".join(
        f"  *query-gpu={field}*) echo '{LOST if lost else first}'; echo '{second}' ;;\n"
        for field, (first, second) in rows.items()
    )
    say = f"[ -z '{before}' ] || echo '{before}'\n"
    return f"{say}case \"$1\" in\n{cases}esac\n[ -z '{after}' ] || echo '{after}'\nexit {ends}\n"


def machine(folder: Path, script: str) -> Path:
    """The files of a machine with two cards, and its nvidia-smi."""
    files = {"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX  535.129.03 x"}
    files |= {f"proc/driver/nvidia/gpus/{slot}/information": CARD for slot in SLOTS}
    root = tree(folder, files)
    tool(root, "nvidia-smi", script)
    return root


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (smi(), ""),
        (smi(after=WARNING, ends=14), f"nvidia-smi failed (14): {WARNING}"),
        (smi(before=WARNING), f"nvidia-smi also said '{WARNING}'"),
        (smi(before="a proxy says hello", after=WARNING), "and 1 more lines"),
    ],
    ids=["quiet", "infoROM", "before", "both"],
)
def test_a_card_keeps_its_values_whatever_nvidia_smi_warns_of(
    tmp_path: Path, script: str, said: str
) -> None:
    found = facts.collect(tmp_path, root=machine(tmp_path / "root", script))
    cards = {card.detail["slot"]: card.detail for card in found.accelerators}
    assert set(cards) == set(SLOTS)
    for detail in cards.values():
        assert (detail["memory_mib"], detail["compute_capability"]) == ("81559", "9.0")
    values = {s.name: s.value for s in found.sensors if s.source == "nvidia"}
    assert (values["gpu0 power"], values["gpu1 temperature"]) == (71420, 45)
    assert values["gpu0 throttled: software power cap"] == 1
    assert "gpu1 power" not in values
    for name in ("sensors nvidia", "accelerators nvidia_gpu"):
        assert said in found.unread.get(name, "")
        assert (name in found.unread) == bool(said)


def test_a_card_that_fell_off_the_bus_leaves_the_others_their_numbers(tmp_path: Path) -> None:
    found = facts.collect(tmp_path, root=machine(tmp_path / "root", smi(lost=True, ends=15)))
    cards = {card.detail["slot"]: card.detail for card in found.accelerators}
    assert "memory_mib" not in cards[SLOTS[0]]
    assert cards[SLOTS[1]]["memory_mib"] == "81559"
    values = {s.name: s.value for s in found.sensors if s.source == "nvidia"}
    assert values["gpu1 temperature"] == 45
    assert not [name for name in values if name.startswith("gpu0")]
    assert "nvidia-smi failed (15)" in found.unread["sensors nvidia"]


def test_a_tool_that_says_nothing_of_use_is_quoted(tmp_path: Path) -> None:
    root = machine(tmp_path / "root", "echo 'NVIDIA-SMI has failed: no driver'; exit 9\n")
    found = facts.collect(tmp_path, root=root)
    assert len(found.accelerators) == 2
    assert found.unread["sensors nvidia"] == (
        "nvidia-smi failed (9): NVIDIA-SMI has failed: no driver"
    )
    assert "no driver" in found.unread["accelerators nvidia_gpu"]


def jetson(folder: Path, name: str, script: str) -> Path:
    root = tree(folder, JETSON)
    tool(root, name, script)
    return root


@pytest.mark.parametrize(
    "before",
    ["", "echo 'run it as root for more';", "echo; printf 'RA'; sleep 0.1; printf 'T\\n';"],
)
def test_tegrastats_of_jetpack_3_among_other_lines(tmp_path: Path, before: str) -> None:
    script = f"{before} while :; do echo '{JETPACK_3}'; sleep 0.05; done\n"
    sensors, unread = read_all(jetson(tmp_path, "tegrastats", script))
    values = {s.name: s.value for s in sensors if s.source == "tegrastats"}
    assert (values["cpu0 load"], values["cpu2 load"]) == (12, 3)
    assert (values["cpu0 clock"], values["cpu2 clock"]) == (1428, 1428)
    assert "cpu1 load" not in values
    assert (values["GR3D load"], values["RAM used"]) == (7, 1023)
    assert "tegrastats" not in unread


@pytest.mark.parametrize(
    ("cores", "odd"),
    [("CPU [12%@921,broken,3%@921]", "broken"), ("cpu: 12% 3%", "cpu: 12% 3%")],
)
def test_cores_in_an_unknown_form_cost_themselves_alone(
    tmp_path: Path, cores: str, odd: str
) -> None:
    line = f"RAM 600/3964MB (lfb 90x4MB) {cores} EMC_FREQ 0%@1600 GPU@34C"
    sensors, unread = read_all(jetson(tmp_path, "tegrastats", f"echo '{line}'\n"))
    values = {s.name: s.value for s in sensors if s.source == "tegrastats"}
    assert (values["RAM used"], values["EMC clock"], values["GPU"]) == (600, 1600, 34)
    assert f"tegrastats said '{odd}" in unread["tegrastats"]
    assert "where cores were expected" in unread["tegrastats"]


def test_nvpmodel_that_complains_of_the_fan_tells_the_mode(tmp_path: Path) -> None:
    script = "echo 'NVPM WARN: fan mode is not set!'\necho 'NV Power Mode: 15W'\necho 2\nexit 1\n"
    root = jetson(tmp_path / "root", "nvpmodel", script)
    found = facts.collect(tmp_path, root=root)
    assert found.power_mode == "15W"
    assert "power_mode" not in found.unread
    tool(root, "nvpmodel", "echo 'NVPM ERROR: no such file' >&2\nexit 1\n")
    found = facts.collect(tmp_path, root=root)
    assert found.unread["power_mode"] == "nvpmodel failed (1): NVPM ERROR: no such file"


def test_vcgencmd_among_other_lines(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"})
    tool(root, "vcgencmd", "echo 'perl: warning: no locale'\necho throttled=0x50005\nexit 1\n")
    sensors, unread = read_all(root)
    values = {s.name: s.value for s in sensors if s.source == "raspberry"}
    assert values["throttled now"] == 1
    assert "raspberry" not in unread


def test_trtexecs_scalars_and_numbers_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "output.json"
    path.write_text(
        '[ { "name" : "score", "dimensions" : "", "values" : [ 0.5 ] }\n'
        ', { "name" : "nan of \\"inf\\"", "dimensions" : "2x2", "values" : [ nan, -nan, inf, -inf ]'
        " }\n"
        ', { "name" : "b", "dimensions" : "3", "values" : [ -nan(ind), infinity, 1e-05 ] } ]\n'
    )
    found = trtexec_output.read_outputs(path)
    assert found["score"].shape == ()
    assert found["score"] == 0.5
    np.testing.assert_array_equal(found['nan of "inf"'], [[np.nan] * 2, [np.inf, -np.inf]])
    np.testing.assert_array_equal(found["b"], [np.nan, np.inf, 1e-05])
    path.write_text('[ { "name" : "y", "dimensions" : "2", "values" : [ 0.5, oops ] } ]')
    with pytest.raises(BadOutput, match="trtexec's outputs cannot be read"):
        trtexec_output.read_outputs(path)
    path.write_text('[ { "name" : "y", "dimensions" : "two", "values" : [ 0.5 ] } ]')
    with pytest.raises(BadOutput, match="trtexec's output y: "):
        trtexec_output.read_outputs(path)


def test_trtexecs_times_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    row = {"startComputeMs": 300.0, "startH2dMs": 299.0, "endD2hMs": 301.0, "computeMs": 1.0}
    path = tmp_path / "times.json"
    path.write_text(json.dumps([{**row, "latencyMs": 2.0}]).replace("2.0", "nan"))
    with pytest.raises(BadOutput, match="latency"):
        trtexec_output.read_times(path, 100)


@pytest.mark.parametrize(
    ("printed", "answer"),
    [
        ('W0000 delegate\n""\n', ""),
        ('"ValueError: no device"\nthe library says bye\n', "ValueError: no device"),
        ('12\n[]\n"in"\n{}\n', "in"),
    ],
)
def test_the_probe_of_libedgetpu_among_its_librarys_words(printed: str, answer: str) -> None:
    assert edgetpu._answer(printed) == answer
    with pytest.raises(RuntimeMissing, match="gave no answer: no JSON"):
        edgetpu._answer("no JSON")
