"""The processor: model, usable cores, and the instruction sets that runtimes look for."""

from __future__ import annotations

import os
from pathlib import Path

from agent.facts import arm_parts
from agent.system.errors import Unreadable

_FLAGS = frozenset(
    (
        "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni",
        "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
        "neon", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme",
    )
)  # fmt: skip
"""Names in ``/proc/cpuinfo``: ``flags`` on x86, ``Features`` on ARM."""

COMMON_NAMES = {"asimd": "NEON", "asimddp": "dotprod", "asimdhp": "fp16"}
"""Usual names of instruction sets that 64-bit ARM kernels name otherwise."""


def count() -> int:
    """How many logical processors this process may run on."""
    return len(os.sched_getaffinity(0))


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name; empty where ``/proc/cpuinfo`` has none."""
    entries = _entries(root)
    for key in ("model name", "cpu model", "Model Name"):
        if entries.get(key):
            return entries[key]
    part = entries.get("CPU part", "")
    return arm_parts.full_name(entries.get("CPU implementer", ""), part) if part else ""


def isa(root: Path) -> tuple[str, ...]:
    """The first core's instruction sets that runtimes look for, sorted. Raises ``Unreadable``."""
    entries = _entries(root)
    flags = entries.get("flags", entries.get("Features"))
    if flags is None:
        raise Unreadable("/proc/cpuinfo lists no flags")
    return tuple(sorted(_FLAGS & set(flags.split())))


def _entries(root: Path) -> dict[str, str]:
    """First value of each key in ``/proc/cpuinfo``."""
    entries: dict[str, str] = {}
    for processor in reversed(processors(root)):
        entries.update(processor)
    return entries


def processors(root: Path) -> list[dict[str, str]]:
    """The paragraphs of ``/proc/cpuinfo``: one per logical processor that is online, and on some
    boards a last one about the board."""
    text = (root / "proc/cpuinfo").read_text("utf-8", "replace")
    found = []
    for paragraph in text.split("\n\n"):
        pairs = [line.partition(":") for line in paragraph.splitlines()]
        entries = {key.strip(): value.strip() for key, colon, value in pairs if colon}
        if entries:
            found.append(entries)
    return found
