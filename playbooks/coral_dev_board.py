"""A Coral Dev Board with Mendel Linux: its Edge TPU is on PCIe."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.coral import apex_steps, library_step
from playbooks.run import Step


def steps(_: BoardClass) -> list[Step]:
    return [library_step(), *apex_steps()]
