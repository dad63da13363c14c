"""The ``.keras`` file: a zip of ``metadata.json``, ``config.json`` and ``model.weights.h5``."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

METADATA = "metadata.json"
BEGINNING = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip archive can store."""


def without_date(path: Path) -> None:
    """Rewrite the archive with constant dates, so that one model always gives the same bytes.

    ``date_saved``, which the format requires, is set to 1980. Raises OSError.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members[METADATA])
    metadata["date_saved"] = "1980-01-01@00:00:00"
    members[METADATA] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, BEGINNING), content)
