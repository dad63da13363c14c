"""What a device may be called: its name is that of a queue, of a user on the broker, of files."""

from __future__ import annotations

import re

from agent.contract import DEVICE_NAME
from orchestrator.domain.errors import UserError

EXPECTED = "1 to 63 of a-z, 0-9 and -, not - at either end"


def is_one(name: str) -> bool:
    return re.fullmatch(DEVICE_NAME, name) is not None


def require(name: str) -> None:
    """Raises ``UserError``."""
    if not is_one(name):
        raise UserError(f"device name {name!r}: expected {EXPECTED}")
