"""Packs a SavedModel's folder into one file: equal content gives equal bytes on every machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.formats import archive
from orchestrator.domain.errors import UserError

SAVED_MODEL = "saved_model.pb"


@contextmanager
def packed_savedmodel(folder: Path) -> Iterator[Path]:
    """The path of the folder's archive, which exists for as long as the block lasts.

    Raises:
        UserError: the folder is no SavedModel, or contains a symbolic link.
    """
    if not (folder / SAVED_MODEL).is_file():
        raise UserError(
            f"{folder}: this folder holds no {SAVED_MODEL}; a folder is registered if it is a "
            "SavedModel (tf.saved_model.save, model.export)"
        )
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise UserError(f"{path} is a link; copy what it leads to into the SavedModel")
    with tempfile.TemporaryDirectory(prefix="benchfarm-") as temporary:
        path = Path(temporary) / "savedmodel.zip"
        try:
            archive.pack(folder, path)
        except archive.BadArchive as error:
            raise UserError(f"{folder}: {error}") from None
        yield path
