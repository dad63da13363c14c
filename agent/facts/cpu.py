"""The processor: model, usable cores, and the instruction sets that runtimes look for."""

from __future__ import annotations

import os
from pathlib import Path

from agent.facts.errors import Unreadable

_FLAGS = frozenset(
    (
        "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni",
        "amx_tile", "amx_int8", "amx_bf16",
        "neon", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
    )
)  # fmt: skip
"""As ``/proc/cpuinfo`` names them: ``flags`` on x86, ``Features`` on ARM."""

# ``CPU part`` of ARM Ltd. (implementer 0x41), from the Main ID Register's list in the Arm manuals.
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}


def count() -> int:
    """Cores that this process may run on (not those that the board has)."""
    return len(os.sched_getaffinity(0))


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name, or nothing where ``/proc/cpuinfo`` has none."""
    entries = _entries(root)
    for key in ("model name", "cpu model", "Model Name"):
        if entries.get(key):
            return entries[key]
    part, implementer = entries.get("CPU part", ""), entries.get("CPU implementer", "?")
    if implementer == "0x41" and part in _ARM_PARTS:
        return f"ARM {_ARM_PARTS[part]}"
    return f"implementer {implementer} part {part}" if part else ""


def isa(root: Path) -> tuple[str, ...]:
    """The instruction sets of interest that the first core has, sorted."""
    entries = _entries(root)
    flags = entries.get("flags", entries.get("Features"))
    if flags is None:
        raise Unreadable("/proc/cpuinfo lists no flags")
    return tuple(sorted(_FLAGS & set(flags.split())))


def _entries(root: Path) -> dict[str, str]:
    """First value of each key in ``/proc/cpuinfo``."""
    entries: dict[str, str] = {}
    for line in (root / "proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            entries.setdefault(key.strip(), value.strip())
    return entries
