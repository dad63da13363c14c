"""NVIDIA graphics cards: the driver's own files, and what ``nvidia-smi`` adds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from agent.contract.device import Accelerator
from agent.facts import pci
from agent.system import commands, files
from agent.system.devicetree import is_jetson
from agent.system.errors import PartlyRead, Unreadable
from agent.telemetry.nvidia import UNKNOWN_FIELD, query

_FIELDS = ("pci.bus_id", "memory.total", "compute_cap")
"""Older drivers know no ``compute_cap``."""
_ROW = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7](?: *, *[^,]*){1,2}")


def gpus(root: Path) -> list[Accelerator]:
    """PCI cards, with a driver or without; not a Jetson's own GPU. Raises ``Unreadable``, or
    ``PartlyRead`` where nvidia-smi complains."""
    if is_jetson(root):
        return []
    cards = []
    for folder in _with_driver(root):
        card = parse_information(files.text(folder / "information"))
        cards.append(replace(card, detail={"slot": folder.name, **card.detail}))
    if cards:
        return _with_smi(root, cards)
    return [
        Accelerator(
            "nvidia_gpu",
            pci.name(root, device, "NVIDIA"),
            "pci",
            {"slot": device.slot, "driver": device.driver or "none"},
        )
        for device in _on_bus(root)
    ]


def present(root: Path = Path("/")) -> bool:
    """Whether the board has an NVIDIA GPU, a Jetson's own included. Runs no tool.

    Under WSL, Windows has the card and the driver, and Linux sees only its device file.
    """
    return (
        is_jetson(root) or bool(_with_driver(root) or _on_bus(root)) or (root / "dev/dxg").exists()
    )


def _with_driver(root: Path) -> list[Path]:
    """A folder for each card that NVIDIA's driver has."""
    return files.entries(root, "proc/driver/nvidia/gpus/*")


def _on_bus(root: Path) -> list[pci.PciDevice]:
    """NVIDIA's devices of the PCI classes VGA and 3D controller."""
    return [d for d in pci.devices(root) if d.vendor == "10de" and d.kind in ("0300", "0302")]


def parse_information(text: str) -> Accelerator:
    """Parse ``/proc/driver/nvidia/gpus/*/information``. Raises ``Unreadable``."""
    model = re.search(r"^Model:[ \t]*(\S.*)$", text, re.MULTILINE)
    if model is None:
        raise Unreadable("/proc/driver/nvidia/gpus names no model")
    return Accelerator("nvidia_gpu", model[1].strip(), "pci", {"driver": "nvidia"})


def parse_smi(text: str) -> dict[str, dict[str, str]]:
    """Details by slot, from the lines that hold ``_FIELDS``; a value ``[N/A]`` is left out."""
    found = {}
    for row in filter(_ROW.fullmatch, map(str.strip, text.splitlines())):
        slot, *values = [value.strip() for value in row.split(",")]
        named = zip(("memory_mib", "compute_capability"), values, strict=False)
        found[_slot(slot)] = {k: v for k, v in named if re.fullmatch(r"[0-9.]{1,12}", v)}
    return found


def _with_smi(root: Path, cards: list[Accelerator]) -> list[Accelerator]:
    """Add what only ``nvidia-smi`` knows: memory and compute capability."""
    tool = commands.find(root, "nvidia-smi")
    if tool is None:
        return cards
    try:
        details, complaint = _details(tool)
    except Unreadable as error:
        raise PartlyRead(cards, str(error)) from None
    found = [
        replace(c, detail={**c.detail, **details.get(_slot(c.detail["slot"]), {})}) for c in cards
    ]
    lost = [c.detail["slot"] for c in cards if _slot(c.detail["slot"]) not in details]
    if lost and not complaint:
        complaint = f"nvidia-smi says nothing of the card at {', '.join(lost)}"
    if complaint:
        raise PartlyRead(found, complaint)
    return found


def _details(tool: str) -> tuple[dict[str, dict[str, str]], str]:
    """Details by slot, and what the tool complains of. Raises ``Unreadable``."""
    told = query(tool, ",".join(_FIELDS))
    if UNKNOWN_FIELD in told.out + told.complaint:
        told = query(tool, ",".join(_FIELDS[:2]))
    complaint = told.besides(_ROW)
    return parse_smi(told.out), complaint


def _slot(text: str) -> str:
    """Shorten the domain to four digits: ``00000000:01:00.0`` becomes ``0000:01:00.0``."""
    return text.lower()[-len("0000:01:00.0") :]
