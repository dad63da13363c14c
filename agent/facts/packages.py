"""Versions of Debian packages, from ``/var/lib/dpkg/status``: without starting dpkg."""

from __future__ import annotations

import re
from pathlib import Path

from agent.telemetry import files

STATUS = "var/lib/dpkg/status"


def installed(root: Path, pattern: str) -> dict[str, str]:
    """Version by name of the installed packages whose whole name matches; empty without dpkg.

    Raises ``Unreadable``: it is there and may not be read.
    """
    return parse(files.text(root / STATUS), pattern)


def parse(text: str, pattern: str) -> dict[str, str]:
    """As ``installed``, of the file's text."""
    names = re.compile(rf"(?:^|\n)Package: ({pattern})\n")
    found = {}
    for paragraph in text.split("\n\n") if "Package: " in text else ():
        named = names.match(f"{paragraph}\n")
        version = re.search(r"^Version: (\S+)$", paragraph, re.MULTILINE) if named else None
        if named and version and re.search(r"^Status: .* installed$", paragraph, re.MULTILINE):
            found[named[1]] = version[1]
    return found
