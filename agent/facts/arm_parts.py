"""Names of ARM cores by ``CPU implementer`` and ``CPU part`` of ``/proc/cpuinfo``.

From the Main ID Register's values in the makers' manuals, as util-linux' ``lscpu`` collects them
(sys-utils/lscpu-arm.c). Only parts that benchmark boards have; others are named by their numbers.
"""

from __future__ import annotations

_MAKERS = {0x41: "ARM", 0x42: "Broadcom", 0x46: "Fujitsu", 0x48: "HiSilicon", 0x4E: "NVIDIA",
           0x51: "Qualcomm", 0x53: "Samsung", 0x61: "Apple", 0xC0: "Ampere"}  # fmt: skip
_PARTS = {
    0x41: {
        0xD01: "Cortex-A32", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55",
        0xD06: "Cortex-A65", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73",
        0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77",
        0xD0E: "Cortex-A76AE", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE",
        0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710", 0xD48: "Cortex-X2",
        0xD49: "Neoverse-N2", 0xD4A: "Neoverse-E1", 0xD4B: "Cortex-A78C", 0xD4C: "Cortex-X1C",
        0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520",
        0xD81: "Cortex-A720", 0xD82: "Cortex-X4", 0xD83: "Neoverse-V3AE", 0xD84: "Neoverse-V3",
        0xD85: "Cortex-X925", 0xD87: "Cortex-A725", 0xD88: "Cortex-A520AE",
        0xD89: "Cortex-A720AE", 0xD8E: "Neoverse-N3",
    },
    0x46: {0x001: "A64FX"},
    0x48: {0xD01: "TaiShan-v110", 0xD02: "TaiShan-v120"},
    0x4E: {0x000: "Denver", 0x003: "Denver 2", 0x004: "Carmel", 0x010: "Olympus"},
    0x51: {0x001: "Oryon", 0x800: "Kryo 2xx Gold", 0x801: "Kryo 2xx Silver",
           0x802: "Kryo 3xx Gold", 0x803: "Kryo 3xx Silver", 0x804: "Kryo 4xx Gold",
           0x805: "Kryo 4xx Silver"},
    0x61: {0x022: "Icestorm (M1)", 0x023: "Firestorm (M1)", 0x032: "Blizzard (M2)",
           0x033: "Avalanche (M2)"},
    0xC0: {0xAC3: "Ampere-1", 0xAC4: "Ampere-1a"},
}  # fmt: skip


def core(implementer: str, part: str) -> str:
    """``Cortex-A78AE`` for ``0x41`` and ``0xd42``; the numbers where the part is not listed."""
    found = _PARTS.get(_hex(implementer), {}).get(_hex(part))
    return found or f"implementer {implementer or '?'} part {part}"


def full_name(implementer: str, part: str) -> str:
    """The core with its maker: ``NVIDIA Carmel``."""
    found, maker = core(implementer, part), _MAKERS.get(_hex(implementer))
    return found if maker is None or found.startswith("implementer") else f"{maker} {found}"


def _hex(number: str) -> int:
    try:
        return int(number, 16)
    except ValueError:
        return -1
