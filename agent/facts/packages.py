"""Versions of Debian packages, read from ``/var/lib/dpkg/status``; dpkg is not run."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from agent.system import files

STATUS = "var/lib/dpkg/status"


def installed(root: Path, pattern: str) -> dict[str, str]:
    """Version by name of the installed packages whose whole name matches; empty without dpkg.

    Raises ``Unreadable``: the file exists and may not be read.
    """
    path = root / STATUS
    try:
        written_ns = path.stat().st_mtime_ns
    except OSError:
        return {}
    known = _read(path, written_ns)
    return {name: version for name, version in known.items() if re.fullmatch(pattern, name)}


@lru_cache(maxsize=1)
def _read(path: Path, written_ns: int) -> dict[str, str]:  # noqa: ARG001 - part of the key
    # Several facts ask for their packages, and the file has megabytes.
    return parse(files.text(path))


def parse(text: str) -> dict[str, str]:
    """Parse the file: version by name of every installed package."""
    found = {}
    for paragraph in text.split("\n\n"):
        entries = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if line.startswith(("Package: ", "Status: ", "Version: "))
        )
        if entries.get("Status", "").endswith(" installed") and len(entries) == 3:
            found[entries["Package"]] = entries["Version"]
    return found
