"""Clocks of the processor, one per policy (cores that share a clock).

``cpuinfo_cur_freq`` is measured by the hardware and readable by root only. ``scaling_cur_freq`` may
be the requested clock: it has claimed 2601 MHz where the core ran at 649. The sensor's name says
which of the two it is.
"""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system import files
from agent.system.errors import Unreadable

name = "cpufreq"

ASKED = " (scaling_cur_freq: maybe asked for, not run at)"


def read(root: Path) -> list[Sensor]:
    """MHz. Raises ``Unreadable``: there are policies, and none gives its clock."""
    policies = files.entries(root, "sys/devices/system/cpu/cpufreq/policy*")
    found = [sensor for policy in policies for sensor in _clock(policy)]
    if policies and not found:
        raise Unreadable("no cpufreq policy says its clock")
    return found


def _clock(policy: Path) -> list[Sensor]:
    measured = files.optional(policy / "cpuinfo_cur_freq")
    if measured:
        return [Sensor(name, policy.name, "MHz", measured / 1000)]
    asked = files.optional(policy / "scaling_cur_freq")
    return [Sensor(name, policy.name + ASKED, "MHz", asked / 1000)] if asked else []
