"""A host with a Coral USB Accelerator."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.coral import library_step, usb_steps
from playbooks.run import Step


def steps(_: BoardClass) -> list[Step]:
    return [library_step(), *usb_steps()]
