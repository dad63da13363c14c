"""A Jetson Thor."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.jetson import jetson_steps
from playbooks.run import Step


def steps(board_class: BoardClass) -> list[Step]:
    return jetson_steps(board_class)
