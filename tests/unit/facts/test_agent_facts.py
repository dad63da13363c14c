"""Whole facts of boards that are not here, from copies of what their kernels say; and of this
machine."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from agent import facts
from agent.contract import codec
from agent.contract.device import Accelerator, CoreGroup, DeviceFacts
from agent.facts import board, cpu
from agent.facts.rows import rows
from agent.system.errors import Unreadable
from support.board_files import JETSON, tool, tree
from support.tegrastats_lines import LINES

ORIN_CPUINFO = "".join(
    f"""\
processor\t: {index}
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

"""
    for index in range(4)
)
ORIN = {
    **JETSON,
    "proc/cpuinfo": ORIN_CPUINFO,
    "proc/meminfo": "MemTotal:        7802848 kB\nMemFree: 1 kB\n",
    "sys/devices/system/cpu/present": "0-5\n",
    **{
        f"sys/devices/system/cpu/cpu{index}/cpufreq/cpuinfo_max_freq": "1510400\n"
        for index in range(4)
    },
    "etc/nvpmodel.conf": "< POWER_MODEL ID=1 NAME=7W >\nX Y 1\n< POWER_MODEL ID=0 NAME=15W >\n",
    "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
    "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
    "sys/bus/usb/devices/2-1/idVendor": "18d1\n",
    "sys/bus/usb/devices/2-1/idProduct": "9302\n",
    "sys/bus/usb/devices/2-1/speed": "5000\n",
}
LAPTOP = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: 11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz
flags\t\t: fpu avx avx2 avx512f avx512_vnni sse4_2
"""


def orin(root: Path) -> Path:
    tree(root, ORIN)
    tool(
        root, "nvpmodel", "echo 'NVPM WARN: fan mode is not set!'; echo NV Power Mode: 15W; echo 0"
    )
    tool(root, "tegrastats", f"echo '{LINES['Orin Nano, JetPack 6, not as root'].text}'")
    return root


def test_a_jetson(tmp_path: Path) -> None:
    known = facts.collect(tmp_path, root=orin(tmp_path))
    assert known.model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert known.cpu_model == "ARM Cortex-A78AE"
    assert known.soc == "tegra234"
    assert known.isa == ("asimd", "asimddp", "asimdhp")
    assert known.memory_mib == pytest.approx(7619.97, abs=0.01)
    assert known.cores == (
        CoreGroup("Cortex-A78AE", 4, 1510.4, 4),
        CoreGroup("offline", 2),
    )
    assert known.versions == {
        "l4t": "36.4.3",
        "jetpack": "6.2",
        "cuda": "12.6.11",
        "tensorrt": "10.3.0",
    }
    assert (known.power_mode, known.power_modes) == ("15W", ("15W", "7W"))
    assert known.accelerators == (
        Accelerator("nvidia_gpu", "Ampere GA10B (tegra234)", "soc"),
        Accelerator(
            *("edgetpu", "Coral USB Accelerator", "usb"),
            {"firmware": "loaded", "usb_mbps": "5000"},
        ),
    )
    assert ("tegrastats", "total power", 3913.0) in [
        (s.source, s.name, s.value) for s in known.sensors
    ]
    assert set(known.unread) == {"caches", "storage"}


def test_a_jetson_for_people(tmp_path: Path) -> None:
    shown = dict(rows(facts.collect(tmp_path, root=orin(tmp_path))))
    assert shown["chip"] == "tegra234"
    assert shown["l4t"] == "36.4.3"
    assert shown["cores"] == "4 × Cortex-A78AE up to 1510 MHz; 2 × offline"
    assert shown["instructions"] == "NEON (asimd), dotprod (asimddp), fp16 (asimdhp)"
    assert shown["power mode"] == "15W (of 15W, 7W)"
    assert shown["accelerator"] == (
        "Coral USB Accelerator (edgetpu, usb; firmware loaded, usb_mbps 5000)"
    )
    assert "total power 3913 mW" in shown["sensors tegrastats"]
    assert "tj 62.8 °C" in shown["sensors tegrastats"]
    assert shown["unread: caches"] == "the kernel lists no caches with their sizes"
    assert not [value for value in shown.values() if "(kind=" in value or "None" in value]


def test_what_a_jetson_does_not_tell_is_said(tmp_path: Path) -> None:
    broken = {"etc/nv_tegra_release": "garbled", "etc/nvpmodel.conf": "# nothing"}
    known = facts.collect(tmp_path, root=tree(tmp_path, {**ORIN, **broken}))
    assert set(known.unread) == {
        *("caches", "storage", "version l4t", "version jetpack", "power_mode", "power_modes"),
        "sensors tegrastats",
    }
    assert known.unread["power_mode"] == "nvpmodel is not installed"
    assert known.versions == {"cuda": "12.6.11", "tensorrt": "10.3.0"}


def test_a_laptop(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/cpuinfo": LAPTOP,
            "sys/class/dmi/id/sys_vendor": "LENOVO\n",
            "sys/class/dmi/id/product_name": "20XW00AAGE\n",
            "etc/os-release": 'NAME="x"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            "sys/firmware/acpi/platform_profile": "balanced\n",
            "sys/firmware/acpi/platform_profile_choices": "low-power balanced performance\n",
        },
    )
    known = facts.collect(tmp_path, root=root)
    assert known.model == "LENOVO 20XW00AAGE"
    assert known.cpu_model == "11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz"
    assert known.isa == ("avx2", "avx512_vnni", "avx512f")
    assert known.system == f"Linux {platform.release()} (Debian GNU/Linux 12 (bookworm))"
    assert known.power_mode == "balanced"
    assert known.power_modes == ("low-power", "balanced", "performance")
    assert (known.soc, known.versions, known.accelerators) == (None, {}, ())
    assert set(known.unread) == {"memory_mib", "caches", "storage"}


def test_nothing_readable_is_said_fact_by_fact(tmp_path: Path) -> None:
    known = facts.collect(tmp_path / "state", root=tmp_path)
    assert (known.model, known.cpu_model, known.isa, known.memory_mib) == (None, None, (), None)
    assert set(known.unread) == {
        *("model", "cpu_model", "isa", "memory_mib", "cores", "caches", "storage"),
    }
    assert "cpuinfo" in known.unread["cpu_model"]
    assert known.storage_free_mib is not None


def test_another_machine_is_known_by_its_files_alone(tmp_path: Path) -> None:
    files = {"proc/sys/kernel/ostype": "Linux\n", "proc/sys/kernel/osrelease": "5.15.148-tegra\n"}
    known = facts.remote(orin(tree(tmp_path, files)), machine="aarch64", hostname="orin")
    assert (known.machine, known.hostname, known.soc) == ("aarch64", "orin", "tegra234")
    assert known.system == "Linux 5.15.148-tegra"
    assert known.versions["jetpack"] == "6.2"
    assert [a.kind for a in known.accelerators] == ["nvidia_gpu", "edgetpu"]
    assert known.unread == {}


@pytest.mark.parametrize("name", ["Default string", "To Be Filled By O.E.M.", ""])
def test_a_placeholder_is_no_name(tmp_path: Path, name: str) -> None:
    tree(tmp_path, {"sys/class/dmi/id/product_name": name})
    with pytest.raises(Unreadable):
        board.model(tmp_path)


@pytest.mark.parametrize(
    ("implementer", "part", "name"),
    [
        ("0x41", "0xd0b", "ARM Cortex-A76"),
        ("0x4e", "0x004", "NVIDIA Carmel"),
        ("0x4e", "0x003", "NVIDIA Denver 2"),
        ("0x51", "0x999", "implementer 0x51 part 0x999"),
        ("0x99", "odd", "implementer 0x99 part odd"),
    ],
)
def test_an_arm_core_is_named_by_maker_and_part(
    tmp_path: Path, implementer: str, part: str, name: str
) -> None:
    tree(tmp_path, {"proc/cpuinfo": f"CPU implementer : {implementer}\nCPU part : {part}\n"})
    assert cpu.cpu_model(tmp_path) == name


def test_this_machine(tmp_path: Path) -> None:
    known = facts.collect(tmp_path)
    assert known.machine == platform.machine()
    assert platform.release() in known.system
    assert known.cpu_count
    assert known.memory_mib
    assert codec.loads(DeviceFacts, codec.dumps(known)) == known
