"""A host with a Coral M.2 or PCIe Accelerator."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.coral import apex_steps, library_step
from playbooks.run import Step


def steps(_: BoardClass) -> list[Step]:
    return [library_step(), *apex_steps()]
