"""Cores, caches and the disk: copies of boards' sysfs, and this machine against other tools."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.device import Cache, CoreGroup, Storage
from agent.facts.caches import caches, size_kib
from agent.facts.cores import cores
from agent.facts.storage import parse_mounts, storage
from agent.system.errors import Unreadable
from support.board_files import tree
from support.need import need

CPU = "sys/devices/system/cpu"


def arm(root: Path, parts: list[tuple[str, str, int, int]]) -> Path:
    """Processors by (implementer, part, kHz, capacity); 0: not told."""
    text = ""
    for index, (implementer, part, khz, capacity) in enumerate(parts):
        text += f"processor\t: {index}\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n\n"
        if khz:
            tree(root, {f"{CPU}/cpu{index}/cpufreq/cpuinfo_max_freq": f"{khz}\n"})
        if capacity:
            tree(root, {f"{CPU}/cpu{index}/cpu_capacity": f"{capacity}\n"})
    return tree(root, {"proc/cpuinfo": text + "Hardware\t: BCM2835\nModel\t: A Board\n"})


def test_big_and_little_cores(tmp_path: Path) -> None:
    root = arm(
        tmp_path,
        [("0x41", "0xd05", 1800000, 530)] * 4
        + [("0x41", "0xd0b", 2256000, 1024)] * 2
        + [("0x41", "0xd0b", 2304000, 1024)] * 2,
    )
    assert cores(root) == (
        CoreGroup("Cortex-A76", 2, 2304, 2, 1024),
        CoreGroup("Cortex-A76", 2, 2256, 2, 1024),
        CoreGroup("Cortex-A55", 4, 1800, 4, 530),
    )


def test_cores_of_two_makers_and_some_switched_off(tmp_path: Path) -> None:
    """Jetson TX2 in a mode without one Denver core."""
    root = arm(tmp_path, [("0x41", "0xd07", 0, 0)] * 4 + [("0x4e", "0x003", 0, 0)])
    tree(root, {f"{CPU}/present": "0-5\n"})
    assert cores(root) == (
        CoreGroup("Cortex-A57", 4, None, 4),
        CoreGroup("Denver 2", 1, None, 1),
        CoreGroup("offline", 1),
    )


def test_a_hybrid_laptop_with_hyperthreads(tmp_path: Path) -> None:
    processors = range(8)  # two performance cores with two threads, four efficient ones
    root = tree(
        tmp_path,
        {
            "proc/cpuinfo": "".join(f"processor : {n}\nmodel name : i\n\n" for n in processors),
            "sys/devices/cpu_core/cpus": "0-3\n",
            "sys/devices/cpu_atom/cpus": "4-7\n",
            **{f"{CPU}/cpu{n}/cpu_capacity": f"{1024 - n}\n" for n in processors},
            **{f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq": "4700000" for n in range(4)},
            **{f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq": "3500000" for n in range(4, 8)},
            **{
                f"{CPU}/cpu{n}/topology/thread_siblings_list": f"{n // 2 * 2}-{n // 2 * 2 + 1}\n"
                for n in range(4)
            },
        },
    )
    assert cores(root) == (
        CoreGroup("performance", 2, 4700, 4),
        CoreGroup("efficient", 4, 3500, 4),
    )


def test_a_cpuinfo_without_processors_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="lists no processors"):
        cores(tree(tmp_path, {"proc/cpuinfo": "Hardware : x\n"}))


def test_a_shared_cache_counts_once(tmp_path: Path) -> None:
    def cache(cpu: int, index: int, level: int, kind: str, size: str, shared: str) -> None:
        folder = f"{CPU}/cpu{cpu}/cache/index{index}"
        named = {"level": str(level), "type": kind, "size": size, "shared_cpu_list": shared}
        tree(tmp_path, {f"{folder}/{name}": f"{text}\n" for name, text in named.items()})

    for cpu in range(2):
        cache(cpu, 0, 1, "Data", "64K", str(cpu))
        cache(cpu, 1, 1, "Instruction", "64K", str(cpu))
        cache(cpu, 2, 2, "Unified", "2M", "0-1")
    tree(tmp_path, {f"{CPU}/cpu0/cache/index3/level": "3\n"})  # without a size: not told
    assert caches(tmp_path) == (
        Cache(1, "Data", 64, 2),
        Cache(1, "Instruction", 64, 2),
        Cache(2, "Unified", 2048, 1),
    )


@given(st.text())
def test_any_size_is_read_or_none(text: str) -> None:
    assert size_kib(text) >= 0


def mounted(root: Path, *lines: str) -> Path:
    return tree(root, {"proc/self/mountinfo": "".join(f"{line}\n" for line in lines)})


ROOT = "25 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw"
NVME = "sys/devices/pci0000:00/nvme/nvme0/nvme0n1"


def disk(root: Path, where: str, number: str, **files: str) -> Path:
    tree(root, {f"{where}/{name.replace('__', '/')}": text for name, text in files.items()})
    name = Path(where).name
    target = os.path.relpath(root / where, root / "sys/dev/block")
    tree(root, {f"sys/dev/block/{number} -> {target}": ""})
    link = os.path.relpath(root / where, root / "sys/class/block")
    return tree(root, {f"sys/class/block/{name} -> {link}": ""})


def test_a_partition_of_an_nvme_disk(tmp_path: Path) -> None:
    root = mounted(tmp_path, ROOT, "26 25 0:5 / /proc rw - proc proc rw")
    disk(root, NVME, "259:0", size="1000215216\n", device__model="Samsung SSD 980 500GB \n")
    disk(root, f"{NVME}/nvme0n1p2", "259:2", partition="2\n", size="900000000\n")
    found = storage(root, tmp_path / "not" / "yet")
    assert found == Storage("nvme0n1 Samsung SSD 980 500GB", "nvme", 1000215216 / 2048)


@pytest.mark.parametrize(("type_", "kind"), [("MMC", "emmc"), ("SD", "sd"), ("", "")])
def test_an_sd_card_is_no_emmc(tmp_path: Path, type_: str, kind: str) -> None:
    root = mounted(tmp_path, "25 1 179:1 / / rw - ext4 /dev/mmcblk0p1 rw")
    where = "sys/devices/mmc_host/mmc0/block/mmcblk0"
    disk(root, where, "179:0", size="62333952", device__type=type_, device__name="SC32G")
    disk(root, f"{where}/mmcblk0p1", "179:1", partition="1")
    assert storage(root, tmp_path) == Storage("mmcblk0 SC32G", kind, 62333952 / 2048)


@pytest.mark.parametrize(
    ("rotational", "vendor", "kind"),
    [("0", "ATA", "ssd"), ("1", "ATA", "hdd"), ("1", "QEMU", "virtual"), ("", "ATA", "")],
)
def test_under_an_encrypted_volume_lies_the_disk(
    tmp_path: Path, rotational: str, vendor: str, kind: str
) -> None:
    root = mounted(tmp_path, "25 1 253:0 / / rw - ext4 /dev/mapper/crypt rw")
    disk(root, "sys/devices/ata1/block/sda", "8:0", size="2048", device__vendor=vendor)
    tree(root, {"sys/devices/ata1/block/sda/queue/rotational": f"{rotational}\n"})
    disk(root, "sys/devices/ata1/block/sda/sda3", "8:3", partition="3")
    disk(root, "sys/devices/virtual/block/dm-0", "253:0", size="1024")
    tree(
        root, {"sys/devices/virtual/block/dm-0/slaves/sda3 -> ../../../../ata1/block/sda/sda3": ""}
    )
    assert storage(root, tmp_path) == Storage("sda", kind, 1.0)


def test_btrfs_has_a_number_of_its_own(tmp_path: Path) -> None:
    root = mounted(tmp_path, "25 1 0:25 /@ / rw - btrfs /dev/vda1 rw")
    disk(root, "sys/devices/virtio/block/vda", "254:0", size="4096")
    disk(root, "sys/devices/virtio/block/vda/vda1", "254:1", partition="1")
    assert storage(root, tmp_path) == Storage("vda", "virtual", 2.0)


def test_the_nearest_mount_counts_and_of_two_the_later(tmp_path: Path) -> None:
    point = str(tmp_path / "my state").replace(" ", "\\040")
    (tmp_path / "my state").mkdir()
    root = mounted(
        *(tmp_path, ROOT),
        f"30 25 0:40 / {point} rw - ext4 /dev/hidden rw",
        f"31 25 0:41 / {point} rw shared:7 master:1 - tmpfs tmpfs rw",
    )
    assert storage(root, tmp_path / "my state") == Storage("tmpfs", "virtual", 0.0)


@given(st.text())
def test_any_mountinfo_is_read(text: str) -> None:
    assert len(parse_mounts(text)) <= len(text.splitlines())


def asked(*command: str) -> str:
    need(command[0], shutil.which(command[0]) is not None, "util-linux is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_this_machines_cores_are_those_of_lscpu() -> None:
    lines = asked("lscpu", "-p=CPU,CORE,SOCKET").splitlines()
    told = [tuple(line.split(",")) for line in lines if not line.startswith("#")]
    found = [group for group in cores(Path("/")) if group.kind != "offline"]
    assert sum(group.threads for group in found) == len(told)
    assert sum(group.count for group in found) == len({(core, socket) for _, core, socket in told})


def test_this_machines_caches_are_those_of_lscpu() -> None:
    told = json.loads(asked("lscpu", "-B", "-J", "-C=LEVEL,TYPE,ONE-SIZE,ALL-SIZE"))["caches"]
    sizes: Counter[tuple[int, str]] = Counter()
    with contextlib.suppress(Unreadable):
        for cache in caches(Path("/")):
            sizes[cache.level, cache.kind] += cache.size_kib * cache.count * 1024
    assert sizes == {(int(c["level"]), c["type"]): int(c["all-size"]) for c in told}


def test_this_machines_disk_is_that_of_findmnt(tmp_path: Path) -> None:
    source = asked("findmnt", "-n", "-o", "SOURCE", "-T", str(tmp_path)).strip()
    found = storage(Path("/"), tmp_path)
    name = Path(source.partition("[")[0]).name
    if not (Path("/sys/class/block") / name).exists():
        assert (found.kind, found.total_mib) == ("virtual", 0.0)
        return
    disks = asked("lsblk", "-n", "-s", "-b", "-o", "NAME,TYPE,SIZE", "-l", f"/dev/{name}")
    whole = {n: int(size) for n, kind, size in map(str.split, disks.splitlines()) if kind == "disk"}
    assert found.total_mib == whole[found.device.split(" ")[0]] / (1 << 20)
