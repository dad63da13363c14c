"""Artifacts of several files as one .zip, which depends only on their names and contents.

Standard library only, Python 3.8 syntax.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Iterator, List, Tuple

MAX_BYTES = 16 << 30
"""Most bytes that an archive may unpack to."""

MAX_FILES = 100_000
"""Most files in an archive: each takes space on the disk, even an empty one."""

WHOLE = "."
"""The entry of an archive that is the artifact as a whole, a folder."""

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    NotImplementedError,  # an unknown compression
    RuntimeError,  # encrypted
    FileExistsError,  # a name twice
    NotADirectoryError,
    IsADirectoryError,
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20


class BadArchive(Exception):
    """It cannot be packed or unpacked safely; the message says why."""


def content_of(artifact: Path) -> Tuple[Path, str]:
    """The folder to pack for ``artifact``, and its entry there: a folder is packed whole, a file
    with all that lies beside it. The entry is empty for a single file, which needs no packing."""
    if artifact.is_dir():
        return artifact, WHOLE
    if len(list(artifact.parent.iterdir())) == 1:
        return artifact, ""
    return artifact.parent, artifact.name


def pack(folder: Path, archive: Path) -> None:
    """Write the files below ``folder`` to ``archive``: sorted, without times, modes or compression.

    Raises:
        BadArchive: there are none, or one is neither a file nor a folder, such as a link.
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


@contextlib.contextmanager
def open_zip(archive: Path) -> Iterator[zipfile.ZipFile]:
    """The zip, opened for reading.

    Raises:
        zipfile.BadZipFile: also where ``zipfile`` itself gives only an ``OSError``: a directory
            that leads to before the file's start.
    """
    try:
        with zipfile.ZipFile(str(archive)) as file:
            yield file
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise zipfile.BadZipFile(str(error)) from error


def unpack(archive: Path, folder: Path, entry: str, max_bytes: int = MAX_BYTES) -> Path:
    """Write the files of ``archive`` into the new ``folder``; returns where ``entry`` lies.

    Raises:
        BadArchive: it is damaged, names a file outside of ``folder``, holds a link, is larger than
            ``max_bytes``, or ``entry`` is not in it.
    """
    folder.mkdir(parents=True)
    try:
        with open_zip(archive) as source:
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
    except DAMAGED as error:
        raise BadArchive("not a whole .zip: %s" % error) from error
    found = folder if entry == WHOLE else folder.joinpath(*_parts(entry))
    if not found.exists():
        raise BadArchive("there is no %r in it" % entry)
    return found


def _require_plain(member: zipfile.ZipInfo) -> None:
    _parts(member.filename)
    if not is_plain(member):
        raise BadArchive("%r is neither a file nor a folder" % member.filename)


def _parts(name: str) -> Tuple[str, ...]:
    """The parts of a member's name. Raises ``BadArchive`` where it leads out of its folder."""
    if not is_inside(name):
        raise BadArchive("%r is no name inside of a folder" % name)
    return PurePosixPath(name).parts


def is_inside(name: str) -> bool:
    """Whether a member's name leads to a place inside of the folder that it is unpacked to."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not (
        name.startswith("/") or ".." in parts or "\\" in name or "\0" in name
    )


def is_plain(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a file or a folder, not a link or a device."""
    return stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)


def _extract(source: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    path = folder.joinpath(*_parts(member.filename))
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
    else:
        write_member(source, member, path)


def write_member(source: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Write a member to the new file ``path``. ``zipfile`` reads no more than the size that the
    member declares, and verifies its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with source.open(member) as content, path.open("xb") as out:
        shutil.copyfileobj(content, out, _CHUNK)
