"""An x86-64 computer with an NVIDIA GPU."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.nvidia import driver_step
from playbooks.run import Step


def steps(_: BoardClass) -> list[Step]:
    return [driver_step()]
