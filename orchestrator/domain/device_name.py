"""Checks a device name that a user gives."""

from __future__ import annotations

from agent.contract.device_name import mistake
from orchestrator.domain.errors import UserError


def require(name: str) -> None:
    """Raises ``UserError`` unless ``name`` is a valid device name."""
    why = mistake(name)
    if why:
        raise UserError(why)
