"""The protocol of a telemetry source; each module beside this one that has ``name`` and ``read``
is one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from agent.contract.device import Sensor


class TelemetrySource(Protocol):
    """``name`` is that of the sensors' ``source``."""

    @property
    def name(self) -> str: ...

    def read(self, root: Path, /) -> list[Sensor]:
        """Every sensor that answers now; none where this board has no such source.

        Raises ``Unreadable``: the board has it, and it cannot be read.
        """
        ...
