"""SavedModels as one file: a ``.zip`` of the folder that a SavedModel is, unpacked safely."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import List, Tuple

from agent.contract.failures import BadModel
from agent.formats.archive import is_inside, is_plain, open_zip, write_member

MOST_FILES = 10000
MOST_BYTES = 8 << 30
"""Most bytes of an unpacked model; it may also take at most half of the free disk space."""

GRAPH = "saved_model.pb"


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack below ``folder``, once; returns the folder that holds ``saved_model.pb``.

    Raises:
        BadModel: not a zip of a SavedModel, or one that would write outside of ``folder``, holds
            links or needs too much space; nothing is left behind.
    """
    target = folder / "savedmodel"
    if not target.is_dir():
        scratch = Path(tempfile.mkdtemp(prefix="unpack-", dir=str(folder)))
        try:
            _unpack(archive, scratch)
            scratch.rename(target)
        except BaseException:
            shutil.rmtree(str(scratch), ignore_errors=True)
            raise
    return target


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with open_zip(archive) as file:
            members, top = _checked(file, archive.name)
            room = min(MOST_BYTES, shutil.disk_usage(str(folder)).free // 2)
            require_room(archive.name, [info for info, _ in members], room)
            for info, path in members:
                write_member(file, info, folder.joinpath(*path.parts[len(top) :]))
    except FileNotFoundError as error:
        raise BadModel("%s does not exist" % archive.name) from error
    except BadModel:
        raise
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        raise BadModel("%s is no zip of a SavedModel: %s" % (archive.name, error)) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadModel("%s holds one name twice: %s" % (archive.name, error.filename)) from error


def require_room(name: str, members: List[zipfile.ZipInfo], room: int = MOST_BYTES) -> None:
    """Raises ``BadModel``: too many files, or too many bytes when unpacked."""
    size = sum(info.file_size for info in members)
    if len(members) > MOST_FILES:
        raise BadModel("%s holds %d files; at most %d" % (name, len(members), MOST_FILES))
    if size > room:
        raise BadModel(
            "%s would take %d MiB unpacked; there is room for %d" % (name, size >> 20, room >> 20)
        )


def _checked(
    file: zipfile.ZipFile, name: str
) -> Tuple[List[Tuple[zipfile.ZipInfo, PurePosixPath]], Tuple[str, ...]]:
    """The files with their paths, and the path inside the zip to the SavedModel's folder."""
    members = []
    for info in file.infolist():
        path = PurePosixPath(info.filename)
        if not is_inside(info.filename):
            raise BadModel("%s holds %r, which leads out of its folder" % (name, info.filename))
        if not is_plain(info):
            raise BadModel("%s holds %r, which is no plain file" % (name, info.filename))
        if not info.is_dir():
            members.append((info, path))
    graphs = [path for _, path in members if path.name == GRAPH]
    if len(graphs) != 1 or len(graphs[0].parts) > 2:
        raise BadModel(
            "%s holds %d files %s; a SavedModel has one, at the top or in the only folder there"
            % (name, len(graphs), GRAPH)
        )
    top = graphs[0].parts[:-1]
    return [(i, p) for i, p in members if p.parts[: len(top)] == top], top
