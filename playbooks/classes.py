"""What a device class adds to the steps that every board takes: a file of its name, found by it."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from importlib.resources import files

from playbooks.errors import BadOrder


@dataclass(frozen=True)
class ClassPlaybook:
    """``runtimes`` as ``benchfarm-agent runtimes add`` takes them; ``groups`` are those in which
    the agent's user reaches the class's accelerators and sensors, where the board has them."""

    device_class: str
    runtimes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def playbook(device_class: str) -> ClassPlaybook:
    """The playbook of a class. Raises ``BadOrder``."""
    names = known()
    if device_class not in names:
        raise BadOrder(
            f"there is no playbook for the device class {device_class!r}; there is one for: "
            f"{', '.join(names)}"
        )
    found: ClassPlaybook = importlib.import_module(_module(device_class)).PLAYBOOK
    return found


def known() -> list[str]:
    """Device classes that have a playbook."""
    stems = (p.name.removesuffix(".yaml") for p in (files("inventory") / "classes").iterdir())
    return sorted(s for s in stems if importlib.util.find_spec(_module(s)) is not None)


def _module(device_class: str) -> str:
    return f"playbooks.{device_class.replace('-', '_')}"
