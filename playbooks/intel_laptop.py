"""An Intel computer with GPU and NPU, whose drivers are the distribution's own."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.run import Step


def steps(_: BoardClass) -> list[Step]:
    return []
