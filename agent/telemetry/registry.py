"""All telemetry sources, asked one after the other."""

from __future__ import annotations

from pathlib import Path

from agent.contract.device import Sensor
from agent.system.errors import Unreadable
from agent.telemetry import (
    apex,
    cpufreq,
    fan,
    ina3221,
    intel,
    nvidia_smi,
    pressure,
    rapl,
    raspberry,
    tegrastats,
    thermal,
    throttle,
)
from agent.telemetry.source import TelemetrySource

SOURCES: tuple[TelemetrySource, ...] = (
    thermal,
    cpufreq,
    throttle,
    pressure,
    fan,
    tegrastats,
    ina3221,
    rapl,
    nvidia_smi,
    intel,
    apex,
    raspberry,
)


def read_all(root: Path = Path("/")) -> tuple[tuple[Sensor, ...], dict[str, str]]:
    """The sensors that answer, and for each source that should and does not, why."""
    sensors: list[Sensor] = []
    unread: dict[str, str] = {}
    for source in SOURCES:
        try:
            sensors += source.read(root)
        except Unreadable as error:
            unread[source.name] = str(error)
        except (OSError, ValueError) as error:
            unread[source.name] = f"{type(error).__name__}: {error}"
    return tuple(sensors), unread
