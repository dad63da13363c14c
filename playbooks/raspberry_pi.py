"""A Raspberry Pi with a 64-bit system: nothing besides."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.run import Step


def steps(_: BoardClass) -> list[Step]:
    return []
