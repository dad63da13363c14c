"""NVIDIA graphics cards, read by ``nvidia-smi``.

Its power is an average over a second, and some chips sample a quarter of the time: integrate over
seconds. It gives no energy counter (NVML does: ``nvmlDeviceGetTotalEnergyConsumption``).
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.contract.device import Sensor
from agent.system import commands, devicetree
from agent.system.errors import PartlyRead, Unreadable

name = "nvidia"

FIELDS = {
    "temperature.gpu": ("temperature", "C", 1),
    "power.draw": ("power", "mW", 1000),
    "clocks.sm": ("SM clock", "MHz", 1),
    "clocks.mem": ("memory clock", "MHz", 1),
    "utilization.gpu": ("load", "percent", 1),
    "memory.used": ("memory used", "MiB", 1),
}
REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""The field of the throttling mask in newer and in older drivers."""
UNKNOWN_FIELD = "is not a valid field"
"""Part of nvidia-smi's answer to a field that its driver does not know."""
# NVML: nvmlClocksEventReasons, without those that are no throttling (idle, a setting, a display).
_THROTTLED = {
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


_ROW = re.compile(rf"[0-9]{{1,3}}(?: *, *[^,]{{1,40}}){{{len(FIELDS)}}}")
_MASK = re.compile(r"[0-9]{1,3} *, *(?:0x[0-9a-fA-F]{1,16}|\[[^\]]*\]|N/A)")


def query(tool: str, fields: str) -> commands.Told:
    """nvidia-smi's answer: one line per GPU with the given fields, and whatever it warns of. It
    ends with 14 where only a card's infoROM is corrupted. Raises ``Unreadable``."""
    return commands.told([tool, f"--query-gpu={fields}", "--format=csv,noheader,nounits"])


def parse(text: str) -> list[Sensor]:
    """Parse the lines that hold a card's number and ``FIELDS``; ``[N/A]`` and ``[Not Supported]``
    are left out."""
    found = []
    for row in filter(_ROW.fullmatch, map(str.strip, text.splitlines())):
        index, *values = [value.strip() for value in row.split(",")]
        for (what, unit, factor), value in zip(FIELDS.values(), values, strict=True):
            if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value):
                found.append(Sensor(name, f"gpu{index} {what}", unit, float(value) * factor))
    return found


def parse_reasons(text: str) -> list[Sensor]:
    """Parse the lines that hold a card's number and its mask, ``0, 0x0000000000000004``, into
    sensors of 0 or 1."""
    found = []
    for row in filter(_MASK.fullmatch, map(str.strip, text.splitlines())):
        index, value = [part.strip() for part in row.split(",")]
        if not value.startswith("0x"):
            continue
        mask = int(value, 16)
        found += [
            Sensor(name, f"gpu{index} throttled: {why}", "count", float(bool(mask & bit)))
            for bit, why in _THROTTLED.items()
        ]
    return found


def read(root: Path) -> list[Sensor]:
    """Every card's sensors. Raises ``Unreadable``: there is a driver, and nvidia-smi fails."""
    if devicetree.is_jetson(root) or not (root / "proc/driver/nvidia/version").exists():
        return []  # tegrastats reads a Jetson's GPU; without a driver there is no card to read
    tool = commands.find(root, "nvidia-smi")
    if tool is None:
        raise Unreadable("nvidia-smi is not installed")
    told = query(tool, ",".join(("index", *FIELDS)))
    complaint = told.besides(_ROW)
    found = parse(told.out) + _reasons(tool)
    if complaint:
        raise PartlyRead(found, complaint)
    return found


def _reasons(tool: str) -> list[Sensor]:
    for field in REASONS:
        told = query(tool, f"index,{field}")
        if UNKNOWN_FIELD in told.out + told.complaint:
            continue
        return parse_reasons(told.out)  # of no line, where the card does not support it
    return []
