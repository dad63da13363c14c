"""A device class as the playbooks see it: what of its YAML matters for an installation."""

from __future__ import annotations

from dataclasses import dataclass

from agent.contract.power_modes import PowerCommands


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
    reaches the class's accelerators and sensors, where the board has them. ``steps``: further steps
    by their names in ``playbooks.class_steps``."""

    name: str
    runtimes: tuple[Runtime, ...] = ()
    groups: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    power: PowerCommands | None = None
