"""What a playbook's shell brings over from a board says the same as the board's own files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agent import facts
from orchestrator.domain.device_class import DeviceClass
from playbooks.board_probe import _SCRIPT, _facts, _parse
from playbooks.errors import Unfit
from support.board_files import JETSON, tree
from support.need import need

SHELLS = {"sh": ["sh"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
TREE = "sys/firmware/devicetree/base"
BOARDS = {
    "jetson with a Coral": {
        "etc/nv_tegra_release": JETSON["etc/nv_tegra_release"],
        f"{TREE}/compatible": JETSON["proc/device-tree/compatible"],
        f"{TREE}/model": JETSON["proc/device-tree/model"],
        f"{TREE}/bus@0/host1x@13e00000/nvdla0@15880000/compatible": "nvidia,tegra234-nvdla\0",
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: asimd\nCPU implementer\t: 0x41\n"
        "CPU part\t: 0xd42\n\nprocessor\t: 1\n",
        "proc/sys/kernel/ostype": "Linux\n",
        "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
        "usr/local/cuda/version.json": '{"cuda": {"version": "12.6.11"}}',
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
        "var/lib/dpkg/status": "Package: bash\nVersion: 1\n\nPackage: libedgetpu1-std\n"
        "Status: install ok installed\nDescription: x\n y\nVersion: 16.0\n\nPackage: zsh\n",
        "sys/bus/usb/devices/2-1/idVendor": "1a6e\n",
        "sys/bus/usb/devices/2-1/idProduct": "089a\n",
        "sys/bus/usb/devices/2-1/speed": "480\n",
        "sys/bus/usb/devices/2-2/idVendor": "046d\n",
    },
    "laptop": {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Core(TM) Ultra 7\nflags\t: avx2\n",
        "sys/class/dmi/id/sys_vendor": "LENOVO\n",
        "sys/class/dmi/id/product_name": "21KC\n",
        "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04"\n',
        "sys/bus/pci/devices/0000:00:02.0/class": "0x030000\n",
        "sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086\n",
        "sys/bus/pci/devices/0000:00:02.0/uevent": "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:7D55\n",
        "sys/bus/pci/devices/0000:00:0b.0/class": "0x118000\n",
        "sys/bus/pci/devices/0000:00:0b.0/vendor": "0x8086\n",
        "sys/bus/pci/devices/0000:00:0b.0/uevent": "DRIVER=intel_vpu\nPCI_CLASS=118000\n"
        "PCI_ID=8086:7D1D\n",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03"
        "  Thu Oct 19\n",
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA RTX 4000\n",
        "usr/local/cuda/include/cuda.h": "#ifndef X\n#define CUDA_VERSION 12040\n#endif\n",
    },
    "nothing to read": {},
}


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
@pytest.mark.parametrize(
    ("board", "accelerators"),
    [("jetson with a Coral", 3), ("laptop", 3), ("nothing to read", 0)],
)
def test_a_board_tells_through_its_shell_what_its_files_say(
    tmp_path: Path, board: str, accelerators: int, shell: list[str]
) -> None:
    need(shell[0], shutil.which(shell[0]) is not None, "it is not installed")
    script = _SCRIPT.replace("cd /\n", f"cd '{tree(tmp_path, BOARDS[board])}'\n")
    ended = subprocess.run([*shell, "-c", script], capture_output=True, text=True, check=True)
    given, brought = _parse(ended.stdout)
    known = _facts(given["machine"][0], "board", brought)
    there = facts.remote(tmp_path, machine=given["machine"][0], hostname="board")
    assert (known.model, known.soc, known.cpu_model) == (there.model, there.soc, there.cpu_model)
    assert (known.isa, known.system, known.versions) == (there.isa, there.system, there.versions)
    assert known.accelerators == there.accelerators
    assert set(known.unread) == set(there.unread)
    assert len(known.accelerators) == accelerators


def test_what_is_brought_over_is_bounded(tmp_path: Path) -> None:
    big = {"etc/os-release": "x" * 1_000_000}
    big.update({f"proc/driver/nvidia/gpus/{n:03}/information": "y" * 30_000 for n in range(100)})
    script = _SCRIPT.replace("cd /\n", f"cd '{tree(tmp_path, big)}'\n")
    ended = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    _, brought = _parse(ended.stdout)
    assert len(brought["etc/os-release"]) < 20_010
    assert len(ended.stdout) < 410_000


def test_classes_are_recognised_by_chip_and_accelerator(tmp_path: Path) -> None:
    known = facts.remote(
        tree(tmp_path, BOARDS["jetson with a Coral"]), machine="aarch64", hostname="x"
    )

    def fits(**recognise: str) -> bool:
        return DeviceClass.model_validate({"name": "c", "title": "c", "recognise": recognise}).fits(
            known
        )

    assert fits(soc="^tegra234$", accelerators="^edgetpu usb ")
    assert fits(accelerators="^nvidia_gpu soc ")
    assert not fits(accelerators="^edgetpu pci ")
    assert not fits(soc="^tegra194$")


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "a/../../outside", "."])
def test_a_board_cannot_name_a_file_outside_its_copy(name: str) -> None:
    _, brought = _parse(f"file={name}\n x\n")
    with pytest.raises(Unfit, match="gave a file the name"):
        _facts("x86_64", "board", brought)


def test_garbled_output_of_a_board_is_read_as_far_as_it_goes() -> None:
    given, brought = _parse(" stray\nmachine=x86_64\nfile=proc/cpuinfo\n flags : avx2\nnothing\n")
    assert given["machine"] == ["x86_64"]
    assert brought["proc/cpuinfo"] == "flags : avx2\n"
