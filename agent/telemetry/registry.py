"""The telemetry sources by name: each file of this folder but this one and ``source.py`` is one.

Nothing is listed anywhere else. A device class may name every source that is found here.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import cast

from agent import telemetry as _package
from agent.contract.device import Sensor
from agent.system.errors import PartlyRead, Unreadable
from agent.telemetry.source import TelemetrySource

_NO_SOURCES = ("registry", "source")


class BadTelemetrySource(ValueError):
    """A file of ``agent/telemetry`` is no telemetry source; the message names what is missing."""


def check(module_name: str, module: object) -> None:
    """Raises ``BadTelemetrySource`` where a module is not a source named like its file."""
    path = f"agent/telemetry/{module_name}.py"
    if not hasattr(module, "name"):
        raise BadTelemetrySource(f"{path} has no `name`; helpers belong into agent/system")
    if module.name != module_name:
        raise BadTelemetrySource(
            f"{path} names the source {module.name!r}: expected {module_name!r}, the file's name"
        )
    if not callable(getattr(module, "read", None)):
        raise BadTelemetrySource(f"{path} has no function `read`")


def _find_sources() -> dict[str, TelemetrySource]:
    found: dict[str, TelemetrySource] = {}
    for module in pkgutil.iter_modules(_package.__path__):
        if module.name not in _NO_SOURCES:
            source = importlib.import_module(f"{_package.__name__}.{module.name}")
            check(module.name, source)
            found[module.name] = source
    return dict(sorted(found.items()))


SOURCES: dict[str, TelemetrySource] = _find_sources()
"""Every telemetry source, by name, in the order of the names."""


def read_all(root: Path = Path("/")) -> tuple[tuple[Sensor, ...], dict[str, str]]:
    """Read every source below ``root``.

    Returns the sensors that answer, and for each source that this board has and that cannot be
    read, the reason.
    """
    sensors: list[Sensor] = []
    unread: dict[str, str] = {}
    for name, source in SOURCES.items():
        try:
            sensors += source.read(root)
        except PartlyRead as error:
            sensors += cast("list[Sensor]", error.found)
            unread[name] = str(error)
        except Unreadable as error:
            unread[name] = str(error)
        except (OSError, ValueError) as error:
            unread[name] = f"{type(error).__name__}: {error}"
    return tuple(sensors), unread
