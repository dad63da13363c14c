"""What a home knows of its boards over SSH: their addresses, and the host keys that were pinned.

A backup holds them, so that ``device upgrade`` and ``device logs`` still find the boards after a
restore. It holds no private key: an address names the key's file at most.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

BOARDS = "boards/"
KNOWN_HOSTS = "known_hosts"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.json|known_hosts")
ADDRESS_KEYS = frozenset({"ssh", "identity"})
MAX_BYTES = 1 << 20


def copy_all(home: Path | None, folder: Path) -> list[Path]:
    """Copy the address of each board, and the pinned host keys, from ``home`` below ``folder``.

    Returns the copies. Wheels, locks and whatever else is there stays.
    """
    if home is None or not home.is_dir():
        return []
    folder.mkdir()
    copies = []
    for source in sorted(home.iterdir()):
        if NAME.fullmatch(source.name) and source.is_file() and _is_known(source):
            copies.append(folder / source.name)
            shutil.copyfile(source, copies[-1])
    return copies


def _is_known(path: Path) -> bool:
    """Whether the file is one that benchfarm wrote: a list of host keys, or an address."""
    if path.stat().st_size > MAX_BYTES:
        return False
    if path.name == KNOWN_HOSTS:
        return "PRIVATE KEY" not in path.read_text("utf-8", errors="replace")
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and set(found) <= ADDRESS_KEYS
