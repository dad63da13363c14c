"""Valid names of devices: they name queues, broker users and files too."""

from __future__ import annotations

import re

_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


def mistake(name: str) -> str:
    """What is wrong with the name, for people; empty where it is valid."""
    if re.fullmatch(_NAME, name):
        return ""
    return f"device name {name!r}: expected 1 to 63 of a-z, 0-9 and -, not - at either end"
