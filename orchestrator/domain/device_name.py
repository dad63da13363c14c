"""A device's name, where a user gives it."""

from __future__ import annotations

from agent.contract.device_name import mistake
from orchestrator.domain.errors import UserError


def require(name: str) -> None:
    """Raises ``UserError``."""
    why = mistake(name)
    if why:
        raise UserError(why)
