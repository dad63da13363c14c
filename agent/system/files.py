"""Small files of ``/proc`` and ``/sys``: a missing file is no error, an unreadable one is."""

from __future__ import annotations

import math
import re
from pathlib import Path

from agent.system.errors import Unreadable


def text(path: Path) -> str:
    """The file's text, stripped of blanks and NULs; empty where there is no such file.

    Raises ``Unreadable`` where it exists and may not be read, or its driver refuses.
    """
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0 \t\r\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
    except PermissionError:
        raise Unreadable(f"{path}: permission denied") from None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from None


def number(path: Path) -> float | None:
    """The one number in a file; ``None`` where the file is missing or empty.

    Raises ``Unreadable``, also for other text.
    """
    found = text(path)
    if not found:
        return None
    try:
        value = float(found)
    except ValueError:
        raise Unreadable(f"{path} says {found[:40]!r}, which is no number") from None
    if not math.isfinite(value):
        raise Unreadable(f"{path} says {found[:40]!r}")
    return value


def optional(path: Path) -> float | None:
    """Like ``number``, but ``None`` where it cannot be read: for one sensor among several."""
    try:
        return number(path)
    except Unreadable:
        return None


def entries(root: Path, pattern: str) -> list[Path]:
    """Paths below ``root`` that match a glob, in natural order: ``cpu10`` after ``cpu9``."""
    return sorted(root.glob(pattern), key=lambda path: _natural(str(path)))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(d or -1), rest) for d, rest in re.findall(r"([0-9]{0,18})([^0-9]*)", name)]


def cpu_list(listed: str) -> set[int]:
    """Parse a list of processors such as ``0-3,8``. Raises ``Unreadable``."""
    found: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        ends = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part.strip())
        if ends is None:
            raise Unreadable(f"{listed[:40]!r} is no list of processors")
        found.update(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return found
