"""Jetson's ``tegrastats``: one line per interval; its format differs between boards and JetPacks.

Source: NVIDIA Jetson Linux Developer Guide, "tegrastats Utility"; the tests hold the variants.
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.contract.device import Sensor
from agent.system import commands, devicetree, jetson_rails
from agent.system.errors import PartlyRead, Unreadable
from agent.telemetry.thermal import plausible

name = "tegrastats"

INTERVAL_MS = 200

_N = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)"
_MEMORY = re.compile(rf"\b(RAM|SWAP) {_N}/{_N}MB")
# Before JetPack 3.1 `cpu [0%,off,3%,0%]@102`, with `@-1` while the clock is not known.
_CORES = re.compile(r"\b(?:CPU|cpu) \[([^\]]*)\](?:@(?:-1|" + _N + "))?")
_ANY_CORES = re.compile(r"\bcpu\b[ :]*[\[0-9]", re.IGNORECASE)
_NO_CORE = re.compile(r"(?:off|idle|-*)")
_CORE = re.compile(rf"{_N}%(?:@{_N})?")
# An engine: `EMC_FREQ 0%@1600`, `EMC_FREQ @4266`, `GR3D_FREQ 60%@[620]`, `@[1574,1574]`, `APE 25`,
# `NVENC 79%@166`; `VIC off` and `NVDLA0 off` are left out.
_ENGINE = re.compile(
    rf"\b([A-Z][A-Z0-9]*)(?:_FREQ|_LOAD)? (?:{_N}%)?@?(?:{_N}|\[([0-9, ]*)\])?(?=\s|$)"
)
_MTS = re.compile(rf"\bMTS fg {_N}% bg {_N}%")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z][A-Za-z0-9_.-]*)@(-?[0-9]{1,4}(?:\.[0-9]{1,6})?)C")
# `VDD_IN 4100/4100` (JetPack 4: mW, now/average), `12400mW/12400mW`, and from JetPack 7 on
# `37939mW/8660mW/37939mW`: the first is now.
_RAIL = re.compile(
    r"(?<!\S)([A-Z][A-Za-z0-9_]*) (-?[0-9]{1,9})(?:mW)?(?:/-?[0-9]{1,9}(?:mW)?){1,2}(?=\s|$)"
)


def parse(line: str) -> list[Sensor]:
    """Parse one line. Cores that are off and placeholders are left out.

    ``NAME load`` in per cent, ``NAME clock`` in MHz, ``NAME power`` in mW; ``total power`` is the
    board's or module's.

    Raises ``Unreadable``: the line is not one of tegrastats.
    """
    memory = _MEMORY.findall(line)
    if not any(kind == "RAM" for kind, _, _ in memory):
        raise Unreadable(f"tegrastats said {line.strip()[:60]!r}, where RAM was expected")
    found = [Sensor(name, f"{kind} used", "MiB", float(used)) for kind, used, _ in memory]
    found += _cores(line)
    found += _engines(_MTS.sub("", _CORES.sub("", line)))
    for fore, back in _MTS.findall(line)[:1]:
        found += [_load("MTS foreground", fore), _load("MTS background", back)]
    for zone, value in _TEMPERATURE.findall(line):
        if plausible(zone, float(value)):
            found.append(Sensor(name, zone, "C", float(value)))
    powers = {rail: float(now) for rail, now in _RAIL.findall(line) if rail != jetson_rails.UNUSED}
    return found + jetson_rails.sensors(name, powers)


def _cores(line: str) -> list[Sensor]:
    """``[12%@921,off]``; from JetPack 7 on also ``[0%,off]@2601``, one clock for all."""
    found: list[Sensor] = []
    cores = _CORES.search(line)
    for index, core in enumerate(cores[1].split(",") if cores else ()):
        matched = _CORE.fullmatch(core.strip())
        if matched:
            found.append(_load(f"cpu{index}", matched[1]))
            found += _clock(f"cpu{index}", matched[2] or (cores[2] if cores else None))
    return found


def _engines(line: str) -> list[Sensor]:
    found: list[Sensor] = []
    for engine, load, clock, clocks in _ENGINE.findall(line):
        if load:
            found.append(_load(engine, load))
        found += _clock(engine, clock)
        for index, part in enumerate(clocks.split(",") if clocks else ()):
            if part.strip().isdigit():
                found += _clock(f"{engine} {index}", part.strip()[:9])
    return found


def _load(what: str, percent: str) -> Sensor:
    return Sensor(name, f"{what} load", "percent", float(percent))


def _clock(what: str, mhz: str | None) -> list[Sensor]:
    """Empty for 0: such a unit has no power, it does not run at 0 MHz."""
    value = float(mhz or 0)
    return [Sensor(name, f"{what} clock", "MHz", value)] if value else []


def read(root: Path) -> list[Sensor]:
    """Run the tool until a line of values. Raises ``Unreadable``, or ``PartlyRead`` where its
    cores are in a form that is not known."""
    if not devicetree.is_jetson(root):
        return []
    tool = commands.find(root, "tegrastats")
    if tool is None:
        raise Unreadable("tegrastats is not installed")
    line = commands.first_line([tool, "--interval", str(INTERVAL_MS)], _MEMORY)
    found, odd = parse(line), _odd_cores(line)
    if odd:
        raise PartlyRead(found, f"tegrastats said {odd[:60]!r}, where cores were expected")
    return found


def _odd_cores(line: str) -> str:
    """What a line says of the cores in a form that is not known; empty: nothing."""
    cores = _CORES.search(line)
    if cores is None:
        other = _ANY_CORES.search(line)
        return line[other.start() :] if other else ""
    parts = [core.strip() for core in cores[1].split(",")]
    odd = [core for core in parts if not _CORE.fullmatch(core) and not _NO_CORE.fullmatch(core)]
    return odd[0] if odd else ""
