"""The kernel's figures of this process and this board; ``None`` where they cannot be read."""

from __future__ import annotations

import glob
import os
import re
import time
from typing import Iterable, List, Optional

from agent.contract.trial import Fingerprint, Memory, Usage


def read_text(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def status_mib(key: str) -> Optional[float]:
    """A size out of ``/proc/self/status`` (``VmHWM``, ``VmRSS``) in MiB."""
    match = re.search(r"^%s:\s+(\d+) kB" % key, read_text("/proc/self/status") or "", re.MULTILINE)
    return int(match.group(1)) / 1024.0 if match else None


class MemoryMeter:
    """Peak memory since its creation; create it after the import of the runtime.

    A child inherits ``ru_maxrss`` of its parent through fork and exec, so the kernel's peak is
    reset by writing 5 to ``clear_refs`` (proc(5)); ``source`` says where that is refused.
    """

    def __init__(self) -> None:
        self._after_import = status_mib("VmRSS")
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")
            self._source = "VmHWM, reset after import"
        except OSError:
            self._source = "VmHWM, not reset"

    def read(self) -> Memory:
        peak = status_mib("VmHWM")
        if peak is None:
            return Memory(_max_rss_mib(), self._after_import or 0.0, "ru_maxrss")
        return Memory(peak, self._after_import or 0.0, self._source)


def _max_rss_mib() -> float:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)


class UsageMeter:
    """Processor use and context switches of this process from its creation to ``read``."""

    def __init__(self) -> None:
        import resource

        self._getrusage, self._self = resource.getrusage, resource.RUSAGE_SELF
        self._switches = self._getrusage(self._self)
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> Usage:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        now = self._getrusage(self._self)
        return Usage(
            cpu_percent=100.0 * cpu / wall if wall > 0 else 0.0,
            voluntary_switches=now.ru_nvcsw - self._switches.ru_nvcsw,
            involuntary_switches=now.ru_nivcsw - self._switches.ru_nivcsw,
        )


def fingerprint() -> Fingerprint:
    """The board's condition now."""
    load = (read_text("/proc/loadavg") or "").split()
    pressure = re.search(
        r"^some .*total=(\d+)", read_text("/proc/pressure/cpu") or "", re.MULTILINE
    )
    available = re.search(
        r"^MemAvailable:\s+(\d+) kB", read_text("/proc/meminfo") or "", re.MULTILINE
    )
    governor = read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return Fingerprint(
        at_unix_ns=time.time_ns(),
        load_average_1m=float(load[0]) if load else None,
        cpu_mhz=cpu_mhz(),
        governor=governor.strip() if governor else None,
        temperature_c=hottest_c(),
        pressure_cpu_some_us=int(pressure.group(1)) if pressure else None,
        memory_available_mib=int(available.group(1)) / 1024.0 if available else None,
    )


def cpu_mhz() -> Optional[float]:
    """The clock of the fastest core: the hardware's where it can be read, else the governor's."""
    for name in ("cpuinfo_cur_freq", "scaling_cur_freq"):
        found = _numbers(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/" + name))
        if found:
            return max(found) / 1000.0
    return None


def hottest_c() -> Optional[float]:
    """The hottest thermal zone, without implausible placeholders such as -256 °C."""
    zones = _numbers(glob.glob("/sys/class/thermal/thermal_zone*/temp"))
    real = [value / 1000.0 for value in zones if -40_000 < value < 150_000]
    return max(real) if real else None


def _numbers(paths: Iterable[str]) -> List[float]:
    texts = (read_text(path) for path in paths)
    return [float(t) for t in texts if t and re.match(r"^-?\d+\s*$", t)]


def tree_bytes(path: str) -> int:
    """Size of a file, or of all files below a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
