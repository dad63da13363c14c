"""Collects the facts of a device. A fact that cannot be read is named with the reason."""

from __future__ import annotations

import functools
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from agent.contract.conversion_graph import Tool
from agent.contract.device import Accelerator, DeviceFacts, RuntimeFacts
from agent.facts import (
    board,
    caches,
    cores,
    cpu,
    edgetpu,
    intel,
    jetson,
    memory,
    nvidia,
    operating_system,
    power_modes,
    soc,
    storage,
)
from agent.system.errors import PartlyRead, Unreadable
from agent.telemetry.registry import read_all

T = TypeVar("T")


@dataclass
class _Reader:
    """Reads facts and records why one could not be read (``unread``)."""

    unread: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, source: Callable[[], T]) -> T | None:
        try:
            return source()
        except PartlyRead as error:
            self.unread[name] = str(error)
            return cast(T, error.found)
        except Unreadable as error:
            self.unread[name] = str(error)
        except (OSError, ValueError) as error:
            self.unread[name] = f"{type(error).__name__}: {error}"
        return None


def collect(
    state_dir: Path,
    *,
    root: Path = Path("/"),
    runtimes: tuple[RuntimeFacts, ...] = (),
    tools: tuple[Tool, ...] = (),
) -> DeviceFacts:
    """Collect this device's facts.

    Args:
        state_dir: the folder whose free space is ``storage_free_mib``.
        root: where ``/proc``, ``/sys`` and the vendors' tools are looked for.
        runtimes, tools: which runtimes and converters answer; only running them tells.
    """
    reader = _Reader()
    sensors, unread_sources = read_all(root)
    reader.unread.update({f"sensors {name}": why for name, why in unread_sources.items()})
    kernel = f"{platform.system()} {platform.release()}"
    return DeviceFacts(
        hostname=socket.gethostname(),
        machine=platform.machine(),
        system=reader.read("system", lambda: operating_system.system(root, kernel)) or kernel,
        python=platform.python_version(),
        model=reader.read("model", lambda: board.model(root)),
        cpu_model=reader.read("cpu_model", lambda: _cpu_model(root)),
        cpu_count=reader.read("cpu_count", cpu.count),
        isa=reader.read("isa", lambda: cpu.isa(root)) or (),
        memory_mib=reader.read("memory_mib", lambda: memory.total_mib(root)),
        storage_free_mib=reader.read("storage_free_mib", lambda: memory.free_mib(state_dir)),
        runtimes=runtimes,
        tools=tools,
        soc=reader.read("soc", lambda: soc.soc(root)),
        cores=reader.read("cores", lambda: cores.cores(root)) or (),
        caches=reader.read("caches", lambda: caches.caches(root)) or (),
        storage=reader.read("storage", lambda: storage.storage(root, state_dir)),
        versions=_versions(reader, root),
        accelerators=_accelerators(reader, root),
        power_mode=reader.read("power_mode", lambda: power_modes.current(root)),
        power_modes=reader.read("power_modes", lambda: power_modes.available(root)) or (),
        sensors=sensors,
        unread=reader.unread,
    )


def remote(root: Path, *, machine: str, hostname: str) -> DeviceFacts:
    """Collect another machine's facts from copies of its files below ``root``: those by which a
    device class is recognised."""
    reader = _Reader()
    return DeviceFacts(
        hostname=hostname,
        machine=machine,
        system=reader.read("system", lambda: operating_system.system(root)) or "",
        python="",
        model=reader.read("model", lambda: board.model(root)),
        cpu_model=reader.read("cpu_model", lambda: _cpu_model(root)),
        isa=reader.read("isa", lambda: cpu.isa(root)) or (),
        soc=reader.read("soc", lambda: soc.soc(root)),
        versions=_versions(reader, root),
        accelerators=_accelerators(reader, root),
        unread=reader.unread,
    )


def _versions(reader: _Reader, root: Path) -> dict[str, str]:
    found = {}
    for name, source in operating_system.VERSIONS.items():
        version = reader.read(f"version {name}", functools.partial(source, root))
        if version:
            found[name] = version
    return found


def _accelerators(reader: _Reader, root: Path) -> tuple[Accelerator, ...]:
    sources = {
        "nvidia_gpu": nvidia.gpus,
        "jetson_gpu": jetson.gpu,
        "dla": jetson.dla,
        "intel": intel.accelerators,
        "edgetpu": edgetpu.accelerators,
    }
    found: list[Accelerator] = []
    for name, source in sources.items():
        found += reader.read(f"accelerators {name}", functools.partial(source, root)) or ()
    return tuple(found)


def _cpu_model(root: Path) -> str:
    name = cpu.cpu_model(root)
    if not name:
        raise Unreadable("/proc/cpuinfo names no model")
    return name
