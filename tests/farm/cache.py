"""The cache, kept between runs, of what is slow to build or to download."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """``$XDG_CACHE_HOME/benchfarm/farm``, created if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "benchfarm" / "farm"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep_wheels(home: Path) -> None:
    """Let a controller's ``home`` keep the wheels for its boards in the cache."""
    wheels = cache() / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (home / "boards").mkdir(parents=True)
    (home / "boards" / "wheels").symlink_to(wheels)
