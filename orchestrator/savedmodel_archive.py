"""A SavedModel's folder as one file: the same bytes for the same content, wherever it is made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.formats import archive
from orchestrator.domain.errors import UserError

SAVED_MODEL = "saved_model.pb"


@contextmanager
def packed(folder: Path) -> Iterator[Path]:
    """The folder's archive, for as long as the block lasts.

    Raises:
        UserError: no SavedModel, or it holds a link.
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
