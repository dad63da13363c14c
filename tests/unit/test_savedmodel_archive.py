"""A SavedModel's folder as one file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from orchestrator.domain.errors import UserError
from orchestrator.inspection.child import format_checks
from orchestrator.savedmodel_archive import packed_savedmodel


def saved_model(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    return folder


NAMES = ["variables/variables.index", "saved_model.pb", "assets/a", "fingerprint.pb"]


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    one = saved_model(tmp_path / "one", NAMES)
    two = saved_model(tmp_path / "two", NAMES[::-1])
    (two / "variables" / "variables.index").chmod(0o600)
    os.utime(two / "saved_model.pb", (1e9, 1e9))
    with packed_savedmodel(one) as first, packed_savedmodel(two) as second:
        assert first.read_bytes() == second.read_bytes()
        assert format_checks.checked(first, "one", "savedmodel") == "savedmodel"
        with zipfile.ZipFile(first) as archive:
            assert archive.namelist() == sorted(NAMES)
            archive.extractall(tmp_path / "out")
        kept = first
    assert not kept.exists()
    for name in NAMES:
        assert (tmp_path / "out" / name).read_bytes() == (one / name).read_bytes()


def test_other_content_is_other_bytes(tmp_path: Path) -> None:
    one = saved_model(tmp_path / "one", NAMES)
    two = saved_model(tmp_path / "two", NAMES)
    (two / "assets" / "a").write_bytes(b"other")
    with packed_savedmodel(one) as first, packed_savedmodel(two) as second:
        assert first.read_bytes() != second.read_bytes()


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no saved_model\.pb"), packed_savedmodel(tmp_path):
        pass


@pytest.mark.parametrize("target", ["saved_model.pb", "/etc/hostname", "variables", "nowhere"])
def test_a_link_is_refused(tmp_path: Path, target: str) -> None:
    """What it leads to may lie outside, or be the folder itself."""
    folder = saved_model(tmp_path / "one", NAMES)
    (folder / "assets" / "link").symlink_to(folder / target)
    with pytest.raises(UserError, match="link is a link"), packed_savedmodel(folder):
        pass
