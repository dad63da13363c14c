"""A SavedModel is a folder; as one file it is a ``.zip`` of it, unpacked here with care."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import List, Tuple

from agent.contract.failures import BadModel

MOST_FILES = 10000
MOST_BYTES = 8 << 30
"""What a model may take unpacked; never more than half of what is free on the disk either."""

GRAPH = "saved_model.pb"


def unpack(archive: Path, folder: Path) -> Path:
    """The folder that holds ``saved_model.pb``, below ``folder``; unpacked once.

    Raises:
        BadModel: not a zip, none of a SavedModel, or one that would write elsewhere, holds links,
        or would take too much room; nothing is left behind.
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
        with zipfile.ZipFile(str(archive)) as file:
            members, top = _checked(file, archive.name)
            room = min(MOST_BYTES, shutil.disk_usage(str(folder)).free // 2)
            require_room(archive.name, [info for info, _ in members], room)
            for info, path in members:
                target = folder.joinpath(*path.parts[len(top) :])
                target.parent.mkdir(parents=True, exist_ok=True)
                # A member gives at most the size that it declares, or fails its checksum.
                with file.open(info) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except FileNotFoundError as error:
        raise BadModel("%s does not exist" % archive.name) from error
    except BadModel:
        raise
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        raise BadModel("%s is no zip of a SavedModel: %s" % (archive.name, error)) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadModel("%s holds one name twice: %s" % (archive.name, error.filename)) from error


def require_room(name: str, members: List[zipfile.ZipInfo], room: int = MOST_BYTES) -> None:
    """Raises ``BadModel``: more files, or more bytes unpacked, than a model may have."""
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
    """Its files with their paths, and the path within to the SavedModel."""
    members = []
    for info in file.infolist():
        path = PurePosixPath(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
            raise BadModel("%s holds %r, which leads out of its folder" % (name, info.filename))
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
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
