"""A ``.keras`` file without the time at which it was saved."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from orchestrator.zoo.keras_archive import without_date


def saved(path: Path, second: int) -> Path:
    metadata = {"keras_version": "3.15.1", "date_saved": f"2026-01-01@10:00:{second}"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("metadata.json", json.dumps(metadata)), ("config.json", "{}")):
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 10, 0, second)), content)
    return path


def test_one_model_is_one_file_whenever_it_was_saved(tmp_path: Path) -> None:
    first, later = saved(tmp_path / "a.keras", 10), saved(tmp_path / "b.keras", 40)
    assert first.read_bytes() != later.read_bytes()
    without_date(first)
    without_date(later)
    assert first.read_bytes() == later.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == ["metadata.json", "config.json"]
        assert json.loads(archive.read("metadata.json"))["keras_version"] == "3.15.1"
        assert archive.read("config.json") == b"{}"
