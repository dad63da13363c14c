"""The protocol of a telemetry source: a module of this folder, found by its file's name."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from agent.contract.device import Sensor


class TelemetrySource(Protocol):
    """``name``: the file's name, and ``source`` of each of its sensors."""

    @property
    def name(self) -> str: ...

    def read(self, root: Path, /) -> list[Sensor]:
        """Read every sensor that answers now; empty where this board has no such source.

        ``root``: the folder below which ``/proc`` and ``/sys`` are looked for.

        Raises ``Unreadable``: the board has the source, and it cannot be read; ``PartlyRead``,
        with the sensors that answer: a part of it cannot.
        """
        ...
