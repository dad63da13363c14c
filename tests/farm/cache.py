"""Where what takes long to make is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """``$XDG_CACHE_HOME/benchfarm/farm``, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "benchfarm" / "farm"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep_wheels(home: Path) -> None:
    """Have a controller's ``home`` find what was fetched for boards before, and keep it here."""
    wheels = cache() / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (home / "boards").mkdir(parents=True)
    (home / "boards" / "wheels").symlink_to(wheels)
