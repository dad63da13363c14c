"""What the vendors' files and tools say: every variant that was found, and garbled ones."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.device import Accelerator
from agent.facts import cuda, edgetpu, intel, jetson, nvidia, packages, pci, power_modes
from agent.facts.soc import soc
from agent.system.errors import PartlyRead, Unreadable
from support.board_files import JETSON, tool, tree
from support.need import need

# Printed by boards in public issue reports (jetson_stats, MIPI_Camera) and READMEs.
RELEASES = {
    "# R28 (release), REVISION: 2.1, GCID: 11272647, BOARD: t186ref, EABI: aarch64\n": "28.2.1",
    "# R32 (release), REVISION: 5.1, GCID: 26202423, BOARD: t186ref, EABI: aarch64, DATE: Fri Feb"
    " 19 16:50:29 UTC 2021\n": "32.5.1",
    "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n": "35.4.1",
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan "
    " 8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n": "36.4.3",
    "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug"
    " 22 00:55:42 UTC 2025\n# KERNEL_VARIANT: oot\nINSTALL_TYPE=\n": "38.2.0",
}


@pytest.mark.parametrize(("text", "release"), RELEASES.items())
def test_every_release_file_is_read(text: str, release: str) -> None:
    assert jetson.parse_release(text) == release


@pytest.mark.parametrize(
    ("release", "version"),
    [("32.5", "4.5"), ("32.7.1", "4.6.1"), ("35.4.1", "5.1.2"), ("36.4.3", "6.2"), ("38.2", "7.0")],
)
def test_jetpack_by_nvidias_list(tmp_path: Path, release: str, version: str) -> None:
    major, _, revision = release.partition(".")
    text = f"# R{major} (release), REVISION: {revision}, GCID: 1\n"
    assert jetson.jetpack(tree(tmp_path, {"etc/nv_tegra_release": text})) == version


STATUS = """\
Package: libc6
Status: install ok installed
Version: 2.35-0ubuntu3

Package: nvidia-jetpack
Status: install ok installed
Maintainer: NVIDIA Corporation
Version: 6.2.1+b38
Description: NVIDIA Jetpack Meta Package

Package: libnvinfer8
Status: deinstall ok config-files
Version: 8.5.2-1+cuda11.4

Package: libnvinfer10
Status: install ok installed
Version: 10.3.0.30-1+cuda12.5

Package: libedgetpu1-max
Status: install ok installed
Version: 16.0
"""


def test_packages_say_more_than_lists_and_libraries(tmp_path: Path) -> None:
    root = tree(tmp_path, {**JETSON, packages.STATUS: STATUS})
    assert (jetson.l4t(root), jetson.jetpack(root)) == ("36.4.3", "6.2.1")
    assert cuda.tensorrt(root) == "10.3.0.30"
    assert edgetpu.version(root) == "16.0 (max)"


def test_of_several_packages_the_newest_or_the_nearest_to_the_runtime_counts(
    tmp_path: Path,
) -> None:
    versions = {
        **{"libnvinfer8": "8.6.2-1+cuda11.4", "libnvinfer10": "10.3.0.30-1+cuda12.5"},
        **{"intel-opencl-icd": "24.35.30872.22-1", "libze-intel-gpu1": "24.39.31294.20-1"},
        "intel-level-zero-npu": "1.13.0.20250131",
    }
    text = "\n\n".join(
        f"Package: {name}\nStatus: hold ok installed\nVersion: {version}"
        for name, version in versions.items()
    )
    root = tree(tmp_path, {packages.STATUS: text})
    assert cuda.tensorrt(root) == "10.3.0.30"
    assert intel.gpu_version(root) == "24.39.31294.20-1"
    assert intel.npu_version(root) == "1.13.0.20250131"
    assert (cuda.tensorrt(tmp_path / "no"), intel.gpu_version(tmp_path / "no")) == (None, None)


def test_packages_of_this_machine_are_those_of_dpkg() -> None:
    need("dpkg-query", shutil.which("dpkg-query") is not None, "this is no Debian")
    form = "${Package} ${Version} ${db:Status-Status}\\n"
    told = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True)
    rows = [line.split() for line in told.stdout.splitlines()]
    expected = {name: version for name, version, status in rows if status == "installed"}
    assert packages.installed(Path("/"), "lib[a-z0-9]+").keys() == {
        name for name in expected if re.fullmatch("lib[a-z0-9]+", name)
    }
    assert packages.installed(Path("/"), "dpkg|bash").items() <= expected.items()


def test_a_release_in_no_list_is_said(tmp_path: Path) -> None:
    text = "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic\n"
    with pytest.raises(Unreadable, match=r"L4T 36\.4\.7 is in no list"):
        jetson.jetpack(tree(tmp_path, {"etc/nv_tegra_release": text}))


def test_without_the_release_file_the_package_says_it(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/device-tree/compatible": "nvidia,p3701\0nvidia,tegra234\0"})
    with pytest.raises(Unreadable, match="nvidia-l4t-core"):
        jetson.l4t(root)
    core = (
        "Package: nvidia-l4t-core\nStatus: install ok installed\nVersion: 36.4.3-20250107174145\n"
    )
    assert jetson.l4t(tree(root, {packages.STATUS: core})) == "36.4.3"


@pytest.mark.parametrize(
    ("compatible", "chip", "gpu"),
    [
        ("nvidia,p3449-0000-b00+p3448-0000-b00\0nvidia,jetson-nano\0", "tegra210", "Maxwell GM20B"),
        ("nvidia,p3449-0000+p3668-0000\0nvidia,p3668\0", "tegra194", "Volta GV11B"),
        ("nvidia,p3737-0000+p3701-0000\0nvidia,tegra23x\0", "tegra234", "Ampere GA10B"),
        ("nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0", "tegra264", "Blackwell"),
    ],
)
def test_a_jetsons_chip_and_gpu(tmp_path: Path, compatible: str, chip: str, gpu: str) -> None:
    whole = f"{compatible}nvidia,{chip}\0"
    for text in (whole, whole.replace("\0", "\n")):  # there, and in a copy from there
        root = tree(tmp_path, {"proc/device-tree/compatible": text})
        assert soc(root) == chip
        assert jetson.gpu(root) == [Accelerator("nvidia_gpu", f"{gpu} ({chip})", "soc")]


def test_a_raspberry_pi_has_a_chip_and_no_jetson(tmp_path: Path) -> None:
    text = "raspberrypi,4-model-b\0brcm,bcm2711\0"
    root = tree(tmp_path, {"sys/firmware/devicetree/base/compatible": text})
    assert (soc(root), jetson.gpu(root), jetson.l4t(root)) == ("bcm2711", [], None)


@pytest.mark.parametrize("above", ["", "bus@0/"])
def test_dla_cores_that_the_board_has_switched_on(tmp_path: Path, above: str) -> None:
    node = f"proc/device-tree/{above}host1x@13e00000/nvdla"
    root = tree(
        tmp_path,
        {f"{node}0@15880000/status": "okay\0", f"{node}1@158c0000/status": "disabled\0"},
    )
    assert jetson.dla(root) == [Accelerator("dla", "nvdla0", "soc")]


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN"),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: 5W\n1\n", "5W"),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n", "MODE_15W_6CORE"),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_DESKTOP\n7\nNVPM ERROR: Error opening /sys/"
         "kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n", "MODE_15W_DESKTOP"),
    ],
)  # fmt: skip
def test_nvpmodel_says_its_mode(tmp_path: Path, text: str, mode: str) -> None:
    assert power_modes.parse_query(text) == mode
    tool(tmp_path, "nvpmodel", f"cat <<'E'\n{text}E")
    assert power_modes.current(tree(tmp_path, JETSON)) == mode


def test_nvpmodel_that_fails_is_said(tmp_path: Path) -> None:
    tool(tmp_path, "nvpmodel", "echo 'NVPM ERROR: Permission denied' >&2; exit 1")
    with pytest.raises(Unreadable, match=r"nvpmodel failed \(1\): NVPM ERROR: Permission denied"):
        power_modes.current(tree(tmp_path, JETSON))


CONFIG = (
    "# < POWER_MODEL ID=9 NAME=OLD >\n< POWER_MODEL ID=1 NAME=7W >\n<POWER_MODEL ID=0 NAME=15W>\n"
)


def test_modes_of_a_board_with_a_file_of_its_own(tmp_path: Path) -> None:
    root = tree(tmp_path, {**JETSON, "etc/nvpmodel/nvpmodel_p3767_0003.conf": CONFIG})
    assert power_modes.available(root) == ("15W", "7W")
    with pytest.raises(Unreadable, match="has 2 files"):
        power_modes.available(tree(root, {"etc/nvpmodel/other.conf": CONFIG}))
    assert power_modes.available(tree(root, {"etc/nvpmodel.conf": CONFIG})) == ("15W", "7W")


def test_a_board_with_a_governor_alone(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    root = tree(
        tmp_path,
        {
            f"{folder}/scaling_governor": "ondemand\n",
            f"{folder}/scaling_available_governors": "ondemand performance \n",
        },
    )
    assert power_modes.current(root) == "ondemand"
    assert power_modes.available(root) == ("ondemand", "performance")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC"
         " 2023\nGCC version:  gcc version 12.2.0\n", "535.129.03"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  384.81  Wed Aug 17 22:24:07 PDT 2016\n",
         "384.81"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.42.06  Release Build "
         " (abuild@host)  Thu Jul 11 12:00:00 UTC 2024\n", "555.42.06"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build "
         " (buildbrain@mobile-u64-6336-d8000)  Tue Jan  7 17:35:12 PST 2025\n", "540.4.0"),
    ],
)  # fmt: skip
def test_nvidias_driver(tmp_path: Path, text: str, version: str) -> None:
    assert cuda.driver(tree(tmp_path, {"proc/driver/nvidia/version": text})) == version


def test_cuda_is_said_by_one_of_three_files(tmp_path: Path) -> None:
    folder = "usr/local/cuda"
    assert cuda.cuda(tmp_path) is None
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(Unreadable, match=r"neither version\.json"):
        cuda.cuda(tmp_path)
    header = "#define __CUDA_H__\n#define CUDA_VERSION 12060\n"
    assert cuda.cuda(tree(tmp_path, {f"{folder}/include/cuda.h": header})) == "12.6"
    text = {f"{folder}/version.txt": "CUDA Version 10.2.300\n"}
    assert cuda.cuda(tree(tmp_path, text)) == "10.2.300"
    text = {f"{folder}/version.json": '{"cuda": {"name": "CUDA SDK", "version": "11.4.19"}}'}
    assert cuda.cuda(tree(tmp_path, text)) == "11.4.19"


def test_tensorrt_by_the_librarys_full_name(tmp_path: Path) -> None:
    lib = "usr/lib/aarch64-linux-gnu/libnvinfer"
    assert cuda.tensorrt(tmp_path) is None
    tree(tmp_path, {f"{lib}.so.8": "", f"{lib}_plugin.so.8.2.1": "", f"{lib}.so.8.2.1": ""})
    assert cuda.tensorrt(tmp_path) == "8.2.1"


PCI = "sys/bus/pci/devices"
GPU = "DRIVER=i915\nPCI_CLASS=30000\nPCI_ID=8086:9A49\nPCI_SLOT_NAME=0000:00:02.0\n"


def test_intels_graphics_and_npu(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            f"{PCI}/0000:00:00.0/uevent": "PCI_CLASS=60000\nPCI_ID=8086:9A14\n",
            f"{PCI}/0000:00:02.0/uevent": GPU,
            f"{PCI}/0000:00:0b.0/uevent": "DRIVER=intel_vpu\nPCI_CLASS=118000\nPCI_ID=8086:7D1D\n",
            f"{PCI}/0000:01:00.0/uevent": "PCI_CLASS=38000\nPCI_ID=8086:56A0\n",
            "usr/share/misc/pci.ids": "# list\n8086  Intel Corporation\n\t7d1d  Meteor Lake NPU\n"
            "\t\t17aa 50e1  Subsystem\n\t9a49  TigerLake-LP GT2 [Iris Xe Graphics]\n"
            "8087  Other\n\t56a0  Not this one\n",
        },
    )
    assert intel.accelerators(root) == [
        Accelerator(
            *("intel_gpu", "TigerLake-LP GT2 [Iris Xe Graphics]", "pci"),
            {"slot": "0000:00:02.0", "driver": "i915"},
        ),
        Accelerator(
            *("intel_npu", "Meteor Lake NPU", "pci"),
            {"slot": "0000:00:0b.0", "driver": "intel_vpu"},
        ),
        Accelerator(
            *("intel_gpu", "Intel GPU 8086:56a0", "pci"),
            {"slot": "0000:01:00.0", "driver": "none"},
        ),
    ]


def usb(root: Path, port: str, ids: str, speed: str) -> Path:
    vendor, _, product = ids.partition(":")
    folder = f"sys/bus/usb/devices/{port}"
    return tree(
        root,
        {
            f"{folder}/idVendor": f"{vendor}\n",
            f"{folder}/idProduct": f"{product}\n",
            f"{folder}/speed": f"{speed}\n",
        },
    )


def test_edge_tpus_on_both_buses(tmp_path: Path) -> None:
    usb(tmp_path, "1-1", "1a6e:089a", "480")
    usb(tmp_path, "2-1", "18d1:9302", "5000")
    usb(tmp_path, "3-1", "18d1:4ee7", "480")  # a telephone of the same maker
    card = {f"{PCI}/0000:03:00.0/uevent": "DRIVER=apex\nPCI_CLASS=88000\nPCI_ID=1AC1:089A\n"}
    assert edgetpu.accelerators(tree(tmp_path, card)) == [
        Accelerator("edgetpu", "Coral Edge TPU", "pci", {"slot": "0000:03:00.0", "driver": "apex"}),
        Accelerator(
            *("edgetpu", "Coral USB Accelerator", "usb"),
            {"firmware": "not loaded", "usb_mbps": "480"},
        ),
        Accelerator(
            *("edgetpu", "Coral USB Accelerator", "usb"),
            {"firmware": "loaded", "usb_mbps": "5000"},
        ),
    ]


CARD = """\
Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 123
GPU UUID: \t GPU-00000000-0000-0000-0000-000000000000
Bus Location: \t 0000:17:00.0
"""
SMI = """\
case "$1" in
  *compute_cap) [ "$OLD" ] && { echo 'Field "compute_cap" is not a valid field to query.'; exit 2; }
    echo "00000000:17:00.0, 81559, 9.0" ;;
  *) echo "00000000:17:00.0, 81559" ;;
esac
"""


@pytest.mark.parametrize(
    ("file", "text", "there"),
    [
        ("proc/driver/nvidia/gpus/0000:01:00.0/information", "", True),
        (f"{PCI}/0000:17:00.0/uevent", "PCI_CLASS=30200\nPCI_ID=10DE:2330\n", True),
        (f"{PCI}/0000:17:00.0/uevent", "PCI_CLASS=30000\nPCI_ID=8086:9A49\n", False),
        (f"{PCI}/0000:17:00.1/uevent", "PCI_CLASS=40300\nPCI_ID=10DE:22BA\n", False),  # its sound
        ("etc/nv_tegra_release", "", True),
        ("proc/device-tree/compatible", "nvidia,p3768\0nvidia,tegra234\0", True),
        ("dev/dxg", "", True),
        ("dev/nvidiactl", "", False),  # the driver without a card
        ("dev/dri/card0", "", False),
    ],
)
def test_it_is_known_whether_there_is_a_gpu_of_nvidias(
    tmp_path: Path, file: str, text: str, there: bool
) -> None:
    assert nvidia.present(tree(tmp_path, {file: text})) is there


@pytest.mark.parametrize(
    ("old", "more"), [("", {"compute_capability": "9.0"}), ("1", {})], ids=["newer", "older"]
)
def test_nvidias_cards(
    tmp_path: Path, old: str, more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLD", old)
    slot = "0000:17:00.0"
    root = tree(tmp_path, {f"{PCI}/{slot}/uevent": "PCI_CLASS=30200\nPCI_ID=10DE:2330\n"})
    without = Accelerator("nvidia_gpu", "NVIDIA 10de:2330", "pci", {"slot": slot, "driver": "none"})
    assert nvidia.gpus(root) == [without]
    tree(root, {f"proc/driver/nvidia/gpus/{slot}/information": CARD})
    detail = {"slot": slot, "driver": "nvidia"}
    named = Accelerator("nvidia_gpu", "NVIDIA H100 80GB HBM3", "pci", detail)
    assert nvidia.gpus(root) == [named]
    tool(root, "nvidia-smi", SMI)
    (found,) = nvidia.gpus(root)
    assert found.detail == {**detail, "memory_mib": "81559", **more}
    tool(root, "nvidia-smi", "echo asked >> $0.log; echo No devices were found; exit 6")
    with pytest.raises(PartlyRead, match=r"nvidia-smi failed \(6\): No devices") as caught:
        nvidia.gpus(root)
    assert caught.value.found == [named]
    assert (root / "usr/bin/nvidia-smi.log").read_text() == "asked\n"  # once: it may take long


PARSERS: dict[str, Callable[[str], Any]] = {
    "release": jetson.parse_release,
    "nvpmodel -q": power_modes.parse_query,
    "nvpmodel.conf": power_modes.parse_config,
    "version.json": cuda.parse_version_json,
    "version.txt": cuda.parse_version_txt,
    "cuda.h": cuda.parse_header,
    "driver": cuda.parse_driver,
    "information": nvidia.parse_information,
    "nvidia-smi": nvidia.parse_smi,
    "uevent": lambda text: pci.parse_uevent("0000:00:00.0", text),
    "pci.ids": lambda text: pci.parse_ids(text, "8086", "9a49"),
    "dpkg": packages.parse,
}
SEEDS = (*RELEASES, STATUS, CONFIG, GPU, CARD, '{"cuda": {"version": 3}}', "[[[[", '{"cuda": []}')


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@given(text=st.text() | st.sampled_from(SEEDS), more=st.text(max_size=20))
def test_any_text_is_read_or_refused(parse: Callable[[str], Any], text: str, more: str) -> None:
    with contextlib.suppress(Unreadable):
        parse(text + more)
    with contextlib.suppress(Unreadable):
        parse(more + text)
