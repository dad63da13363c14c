"""Under-voltage and throttling of a Raspberry Pi, from ``vcgencmd get_throttled``.

Bits 0 to 3: now; 16 to 19: since boot (Raspberry Pi documentation, vcgencmd).
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.contract.device import Sensor
from agent.system import commands, devicetree
from agent.system.errors import Unreadable

name = "raspberry"

_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def parse(text: str) -> list[Sensor]:
    """Parse ``throttled=0x50005`` into eight sensors of 0 or 1. Raises ``Unreadable``."""
    found = re.search(r"throttled=0x([0-9a-fA-F]{1,8})\b", text)
    if found is None:
        raise Unreadable(f"vcgencmd get_throttled says {text.strip()[:60]!r}")
    mask = int(found[1], 16)
    return [
        Sensor(name, f"{what} {when}", "count", float(mask >> (first + bit) & 1))
        for first, when in ((0, "now"), (16, "since boot"))
        for bit, what in enumerate(_BITS)
    ]


def read(root: Path) -> list[Sensor]:
    """Run the tool. Raises ``Unreadable``, for example where ``/dev/vcio`` may not be opened."""
    if not any(entry.startswith("raspberrypi,") for entry in devicetree.compatible(root)):
        return []
    tool = commands.find(root, "vcgencmd")
    if tool is None:
        raise Unreadable("vcgencmd is not installed")
    told = commands.told([tool, "get_throttled"])
    try:
        return parse(told.out)
    except Unreadable:
        told.require()
        raise
