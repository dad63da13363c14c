"""Facts of boards that are not here, from copies of what their kernels say."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from agent import codec, facts
from agent.device_facts import DeviceFacts
from agent.facts import board, cpu
from agent.facts.errors import Unreadable

JETSON = """\
processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

processor\t: 1
Features\t: fp
"""
LAPTOP = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: 11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz
flags\t\t: fpu avx avx2 avx512f avx512_vnni sse4_2
"""


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DASH_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_jetson(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        proc__cpuinfo=JETSON,
        proc__meminfo="MemTotal:        7802848 kB\nMemFree: 1 kB\n",
        proc__device_DASH_tree__model="NVIDIA Jetson Orin Nano Developer Kit\0",
    )
    known = facts.collect(tmp_path, root=root)
    assert known.model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert known.cpu_model == "ARM Cortex-A78AE"
    assert known.isa == ("asimd", "asimddp", "asimdhp")
    assert known.memory_mib == pytest.approx(7619.97, abs=0.01)
    assert known.unread == {}


def test_a_laptop(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        proc__cpuinfo=LAPTOP,
        sys__class__dmi__id__sys_vendor="LENOVO\n",
        sys__class__dmi__id__product_name="20XW00AAGE\n",
        etc__os_DASH_release='NAME="x"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    )
    known = facts.collect(tmp_path, root=root)
    assert known.model == "LENOVO 20XW00AAGE"
    assert known.cpu_model == "11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz"
    assert known.isa == ("avx2", "avx512_vnni", "avx512f")
    assert known.system == f"Linux {platform.release()} (Debian GNU/Linux 12 (bookworm))"
    assert set(known.unread) == {"memory_mib"}


def test_nothing_readable_is_said_fact_by_fact(tmp_path: Path) -> None:
    known = facts.collect(tmp_path / "state", root=tmp_path)
    assert (known.model, known.cpu_model, known.isa, known.memory_mib) == (None, None, (), None)
    assert set(known.unread) == {"model", "cpu_model", "isa", "memory_mib"}
    assert "cpuinfo" in known.unread["cpu_model"]
    assert known.storage_free_mib is not None


@pytest.mark.parametrize("name", ["Default string", "To Be Filled By O.E.M.", ""])
def test_a_placeholder_is_no_name(tmp_path: Path, name: str) -> None:
    tree(tmp_path, sys__class__dmi__id__product_name=name)
    with pytest.raises(Unreadable):
        board.model(tmp_path)


def test_an_unknown_arm_core_is_named_by_its_numbers(tmp_path: Path) -> None:
    tree(tmp_path, proc__cpuinfo="CPU implementer : 0x51\nCPU part : 0x800\n")
    assert cpu.cpu_model(tmp_path) == "implementer 0x51 part 0x800"


def test_this_machine(tmp_path: Path) -> None:
    known = facts.collect(tmp_path)
    assert known.machine == platform.machine()
    assert known.cpu_count
    assert known.memory_mib
    assert codec.loads(DeviceFacts, codec.dumps(known)) == known
