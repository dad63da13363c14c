"""Pressure stall information: share of time in which tasks waited for processor, I/O or memory.

``/proc/pressure/{cpu,io,memory}`` (kernel: Documentation/accounting/psi).
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files
from agent.system.errors import Unreadable

name = "pressure"

_LINE = re.compile(r"^(some|full) avg10=([0-9]{1,3}\.[0-9]{1,4}) ", re.MULTILINE)


def parse(resource: str, text: str) -> list[Sensor]:
    """Parse one file: the averages of the last 10 s, in per cent. Raises ``Unreadable``."""
    found = [
        Sensor(name, f"{resource} {share}", "percent", float(value))
        for share, value in _LINE.findall(text)
    ]
    if not found:
        raise Unreadable(f"/proc/pressure/{resource} has no averages")
    return found


def read(root: Path) -> list[Sensor]:
    """Per cent. Raises ``Unreadable``, for example where it is switched off (``psi=0``)."""
    paths = files.entries(root, "proc/pressure/*")
    known = [path for path in paths if path.name in ("cpu", "io", "memory")]
    return [sensor for path in known for sensor in parse(path.name, files.text(path))]
