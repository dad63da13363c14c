"""Clocks and load of Intel's graphics and NPU, from sysfs.

NPU: ``/sys/bus/pci/drivers/intel_vpu/*/npu_*`` (kernel: Documentation/ABI, ivpu). Graphics: i915
``/sys/class/drm/card*/gt_act_freq_mhz``, xe ``card*/device/tile*/gt*/freq0/act_freq``. The load of
the graphics is not in sysfs.
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files

name = "intel"

_NPU = {
    "npu_busy_time_us": ("busy", "s", 1e-6),
    "npu_current_frequency_mhz": ("clock", "MHz", 1.0),
    "npu_memory_utilization": ("memory used", "MiB", 1 / (1 << 20)),
}
_GPU = ("card*/gt_act_freq_mhz", "card*/device/tile*/gt*/freq0/act_freq")


def read(root: Path) -> list[Sensor]:
    """MHz, MiB, and the NPU's busy time in s, a counter. Raises ``Unreadable``."""
    found = []
    for device in files.entries(root, "sys/bus/pci/drivers/intel_vpu/*:*"):
        for file, (what, unit, factor) in _NPU.items():
            value = files.number(device / file)
            if value is not None:
                found.append(Sensor(name, f"npu {what}", unit, value * factor))
    for pattern in _GPU:
        for path in files.entries(root / "sys/class/drm", pattern):
            value = files.number(path)
            if value is not None:
                found.append(Sensor(name, f"{_engine(path)} clock", "MHz", value))
    return found


def _engine(path: Path) -> str:
    """``card0`` or, with xe, ``card0 tile0 gt1``."""
    parts = [p for p in path.parts if p.startswith(("card", "tile", "gt")) and "_" not in p]
    return " ".join(parts)
