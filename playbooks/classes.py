"""The part of a device class that an installation needs."""

from __future__ import annotations

from dataclasses import dataclass

from agent.contract.power_modes import PowerCommands


@dataclass(frozen=True)
class VendorRuntime:
    """A runtime that the vendor installs: see ``orchestrator.domain.device_class``."""

    name: str
    python: tuple[str, ...]
    imports: tuple[str, ...] = ()
    packages: str = ""


Runtime = str | VendorRuntime
"""An argument of ``benchfarm-agent runtimes add``, or a vendor's runtime."""


@dataclass(frozen=True)
class BoardClass:
    """A device class. ``groups`` are Unix groups that give the agent's user access to accelerators
    and sensors. ``steps`` are names in ``playbooks.class_steps``."""

    name: str
    runtimes: tuple[Runtime, ...] = ()
    groups: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    power: PowerCommands | None = None
