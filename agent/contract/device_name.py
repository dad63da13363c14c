"""What a device may be called: its name is that of a queue, of a user on the broker, of files."""

from __future__ import annotations

import re

_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


def mistake(name: str) -> str:
    """What is wrong with a name; empty: nothing."""
    if re.fullmatch(_NAME, name):
        return ""
    return f"device name {name!r}: expected 1 to 63 of a-z, 0-9 and -, not - at either end"
