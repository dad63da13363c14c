"""What a device class means for the installation: data of its YAML, and the steps that it alone
has, in a file of its name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from agent.contract.power_modes import PowerCommands
from playbooks.errors import BadOrder
from playbooks.run import Step


@dataclass(frozen=True)
class VendorRuntime:
    """A runtime that is named, not built: see ``orchestrator.domain.device_class``."""

    name: str
    python: tuple[str, ...]
    imports: tuple[str, ...] = ()
    packages: str = ""


Runtime = str | VendorRuntime
"""Text as ``benchfarm-agent runtimes add`` takes it, or a vendor's."""


@dataclass(frozen=True)
class BoardClass:
    """A device class, as far as a playbook needs it. ``groups`` are those in which the agent's user
    reaches the class's accelerators and sensors, where the board has them."""

    name: str
    runtimes: tuple[Runtime, ...] = ()
    groups: tuple[str, ...] = ()
    power: PowerCommands | None = None


def chosen(classes: Mapping[str, BoardClass], name: str) -> BoardClass:
    """The class of that name. Raises ``BadOrder`` where it or its playbook is missing."""
    names = [n for n in known() if n in classes]
    if name not in names:
        raise BadOrder(
            f"there is no playbook for the device class {name!r}; there is one for: "
            f"{', '.join(names)}"
        )
    return classes[name]


def class_steps(board_class: BoardClass) -> list[Step]:
    """What boards of the class need besides the steps that every board takes; done before them."""
    steps: list[Step] = importlib.import_module(_module(board_class.name)).steps(board_class)
    return steps


def known() -> list[str]:
    """Device classes that have a playbook."""
    stems = (p.name.removesuffix(".yaml") for p in (files("inventory") / "classes").iterdir())
    return sorted(s for s in stems if importlib.util.find_spec(_module(s)) is not None)


def _module(device_class: str) -> str:
    return f"playbooks.{device_class.replace('-', '_')}"
