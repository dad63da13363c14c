"""A SavedModel's folder as one file: the same bytes for the same content, wherever it is made."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.domain.errors import UserError

SAVED_MODEL = "saved_model.pb"
_THEN = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip archive can hold."""


@contextmanager
def packed(folder: Path) -> Iterator[Path]:
    """The folder's archive, for as long as the block lasts: names sorted, times fixed, nothing
    compressed, for compressors change.

    Raises:
        UserError: no SavedModel, or it holds a link.
    """
    if not (folder / SAVED_MODEL).is_file():
        raise UserError(
            f"{folder}: this folder holds no {SAVED_MODEL}; a folder is registered if it is a "
            "SavedModel (tf.saved_model.save, model.export)"
        )
    with tempfile.TemporaryDirectory(prefix="benchfarm-") as temporary:
        path = Path(temporary) / "savedmodel.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in _files(folder):
                entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _THEN)
                entry.external_attr = 0o644 << 16
                entry.create_system = 3
                entry.file_size = file.stat().st_size
                with file.open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        yield path


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
    for path in found:
        if path.is_symlink():
            raise UserError(f"{path} is a link; copy what it leads to into the SavedModel")
    return [path for path in found if path.is_file()]
