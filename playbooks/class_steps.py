"""Further installation steps of a device class, named in its YAML under ``steps``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from playbooks.classes import BoardClass
from playbooks.coral import apex_steps, library_step, usb_steps
from playbooks.errors import InvalidRequest
from playbooks.jetson import jetson_steps
from playbooks.nvidia import driver_step
from playbooks.step_runner import Step

STEPS: Mapping[str, Callable[[BoardClass], list[Step]]] = {
    "edgetpu-library": lambda _: [library_step()],
    "edgetpu-pcie": lambda _: apex_steps(),
    "edgetpu-usb": lambda _: usb_steps(),
    "jetpack": jetson_steps,
    "nvidia-driver": lambda _: [driver_step()],
}
"""The names that a class may use, each with its steps."""


def chosen(classes: Mapping[str, BoardClass], name: str) -> BoardClass:
    """The class of that name. Raises ``InvalidRequest`` if there is none."""
    if name not in classes:
        raise InvalidRequest(
            f"there is no device class {name!r}; there are: {', '.join(sorted(classes))}"
        )
    return classes[name]


def class_steps(board_class: BoardClass) -> list[Step]:
    """The class's own steps, which run before those of every board.

    Raises:
        InvalidRequest: the class names steps that do not exist.
    """
    unknown = [name for name in board_class.steps if name not in STEPS]
    if unknown:
        raise InvalidRequest(
            f"device class {board_class.name}: there are no steps {unknown[0]!r}; "
            f"there are: {', '.join(STEPS)}"
        )
    return [step for name in board_class.steps for step in STEPS[name](board_class)]
