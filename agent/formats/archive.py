"""Artifacts of several files as one: a .zip that depends on their names and contents alone.

Standard library only, Python 3.8 syntax.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import List, Tuple

MAX_BYTES = 16 << 30
"""What an archive may unpack to."""

MAX_FILES = 100_000
"""How many files an archive may hold: each costs a place on the disk, even if it is empty."""

WHOLE = "."
"""The entry of an archive that is itself the artifact, a folder."""

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    NotImplementedError,  # a compression of its own
    RuntimeError,  # encrypted
    FileExistsError,  # a name twice
    NotADirectoryError,
    IsADirectoryError,
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20


class BadArchive(Exception):
    """What was found cannot be packed or unpacked safely; the message says why."""


def content_of(artifact: Path) -> Tuple[Path, str]:
    """What has to be packed for ``artifact``, and its entry there: a folder is packed whole, a file
    with all that lies beside it. Empty where it is one file: nothing has to be packed."""
    if artifact.is_dir():
        return artifact, WHOLE
    if len(list(artifact.parent.iterdir())) == 1:
        return artifact, ""
    return artifact.parent, artifact.name


def pack(folder: Path, archive: Path) -> None:
    """Write the files below ``folder`` to ``archive``: sorted, without times, modes or compression.

    Raises:
        BadArchive: there is none, or something that is neither a file nor a folder, such as a link.
    """
    files = _files(folder)
    if not files:
        raise BadArchive("%s: there is no file in it" % folder)
    with zipfile.ZipFile(str(archive), "w", zipfile.ZIP_STORED) as out:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with path.open("rb") as source, out.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, _CHUNK)


def _files(folder: Path) -> List[Path]:
    found = []
    for root, folders, names in os.walk(str(folder)):
        for name in [*folders, *names]:
            path = Path(root, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise BadArchive("%s is neither a file nor a folder" % path.relative_to(folder))
            if stat.S_ISREG(mode):
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def unpack(archive: Path, folder: Path, entry: str, max_bytes: int = MAX_BYTES) -> Path:
    """Write the files of ``archive`` into the new ``folder``; where ``entry`` lies then.

    Raises:
        BadArchive: it is damaged, names something outside of ``folder``, holds a link, is larger
            than ``max_bytes``, or ``entry`` is not in it.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(str(archive)) as source:
            members = source.infolist()
            if len(members) > MAX_FILES:
                raise BadArchive("it holds %d files, at most %d wanted" % (len(members), MAX_FILES))
            for member in members:
                _require_plain(member)
            total = sum(member.file_size for member in members)
            if total > max_bytes:
                raise BadArchive("it unpacks to %d bytes, at most %d wanted" % (total, max_bytes))
            for member in members:
                _extract(source, member, folder)
    except _DAMAGED as error:
        raise BadArchive("not a whole .zip: %s" % error) from error
    found = folder if entry == WHOLE else folder.joinpath(*_parts(entry))
    if not found.exists():
        raise BadArchive("there is no %r in it" % entry)
    return found


def _require_plain(member: zipfile.ZipInfo) -> None:
    _parts(member.filename)
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive("%r is neither a file nor a folder" % member.filename)


def _parts(name: str) -> Tuple[str, ...]:
    """Raises ``BadArchive`` where it is not the plain name of something inside."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise BadArchive("%r is no name inside of a folder" % name)
    return parts


def _extract(source: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """``zipfile`` reads no more of a member than it says, and checks its checksum."""
    path = folder.joinpath(*_parts(member.filename))
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with source.open(member) as content, path.open("xb") as out:
        shutil.copyfileobj(content, out, _CHUNK)
