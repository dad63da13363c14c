"""Puts the facts of a device together. A fact that cannot be read is named with the reason."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent.device_facts import DeviceFacts, RuntimeFacts
from agent.facts import board, cpu, memory
from agent.facts.errors import Unreadable
from agent.graph import Tool

T = TypeVar("T")


@dataclass
class _Reader:
    """Collects the reasons of what could not be read."""

    unread: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, source: Callable[[], T]) -> T | None:
        try:
            return source()
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
    """What this device is. ``storage_free_mib`` is that of ``state_dir``.

    ``root`` is where ``/proc`` and ``/sys`` are looked for. Which runtimes and converters answer is
    learned by running them, so the caller brings that along.
    """
    reader = _Reader()
    return DeviceFacts(
        hostname=socket.gethostname(),
        machine=platform.machine(),
        system=_system(root),
        python=platform.python_version(),
        model=reader.read("model", lambda: board.model(root)),
        cpu_model=reader.read("cpu_model", lambda: _cpu_model(root)),
        cpu_count=reader.read("cpu_count", cpu.count),
        isa=reader.read("isa", lambda: cpu.isa(root)) or (),
        memory_mib=reader.read("memory_mib", lambda: memory.total_mib(root)),
        storage_free_mib=reader.read("storage_free_mib", lambda: memory.free_mib(state_dir)),
        runtimes=runtimes,
        tools=tools,
        unread=reader.unread,
    )


def remote(root: Path, *, machine: str, hostname: str) -> DeviceFacts:
    """What another machine is, as far as copies of its files below ``root`` tell."""
    reader = _Reader()
    return DeviceFacts(
        hostname=hostname,
        machine=machine,
        system=_system(root),
        python="",
        model=reader.read("model", lambda: board.model(root)),
        cpu_model=reader.read("cpu_model", lambda: _cpu_model(root)),
        isa=reader.read("isa", lambda: cpu.isa(root)) or (),
        unread=reader.unread,
    )


def _cpu_model(root: Path) -> str:
    name = cpu.cpu_model(root)
    if not name:
        raise Unreadable("/proc/cpuinfo names no model")
    return name


def _system(root: Path) -> str:
    """Kernel and, where it says so itself, the distribution: ``Linux 6.1.0 (Debian 12)``."""
    kernel = f"{platform.system()} {platform.release()}"
    try:
        lines = (root / "etc/os-release").read_text("utf-8").splitlines()
    except OSError:
        return kernel
    names = [
        line.partition("=")[2].strip("\"'") for line in lines if line.startswith("PRETTY_NAME=")
    ]
    return f"{kernel} ({names[0]})" if names else kernel
