"""Resumable uploads: the bytes that have arrived are kept until the rest follows.

One file per uploader and blob. One request at a time appends to it, on all controllers that share
the folder (``flock``). A complete upload is hashed before it becomes a blob.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.store.blobs import PARTIAL, FolderBlobs

IDLE_S = 30.0
"""A request that sends nothing for this long is ended: a connection that was cut silently must not
keep the file locked."""
KEEP_PARTIAL_S = 7 * 86_400.0
"""How long an unfinished upload is kept."""

_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


class UploadOutOfStep(FarmError):
    """The part begins after the last byte that has arrived, which is at ``size_bytes``."""

    kind = "out_of_step"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes of this upload are here: go on from there")
        self.size_bytes = size_bytes


class UploadBusy(FarmError):
    """Another request is sending the same blob; if it is dead, it ends within ``IDLE_S``."""

    kind = "upload_busy"
    transient = True


@dataclass(frozen=True)
class UploadPart:
    """``size`` bytes from ``start`` on, of ``total``."""

    start: int
    size: int
    total: int

    @classmethod
    def parse(cls, header: str) -> UploadPart:
        """Parses ``Content-Range`` (RFC 9110, section 14.4). Raises ``UserError``."""
        found = _RANGE.fullmatch(header)
        first, last, total = map(int, found.groups()) if found else (0, -1, 0)
        if not first <= last < total:
            raise UserError(f"Content-Range {header[:80]!r}: expected bytes FIRST-LAST/TOTAL")
        return cls(first, last - first + 1, total)


class Uploads:
    """Unfinished uploads into ``blobs``.

    ``uploader``: one token of one device or person (``uploader_prefix``); each sees its own only.
    """

    def __init__(self, blobs: FolderBlobs, idle_s: float = IDLE_S) -> None:
        self._blobs = blobs
        self._folder = blobs.root / PARTIAL
        self._idle_s = idle_s

    def size(self, uploader: str, sha256: str) -> int:
        """How many bytes of an upload have arrived. Raises ``UserError``."""
        try:
            return self._path(uploader, sha256).stat().st_size
        except FileNotFoundError:
            return 0

    async def receive(
        self, uploader: str, sha256: str, part: UploadPart, chunks: AsyncIterator[bytes]
    ) -> int:
        """Append a part, overwriting bytes from its start on; returns the bytes that have arrived.

        Once that is ``part.total`` the blob is stored. Where the connection is cut, what has
        arrived of the part is kept.

        Raises:
            UploadOutOfStep: bytes before the part are missing.
            UploadBusy: another request has the file.
            UserError: too large, more bytes than announced, or another hash: then nothing is kept.
        """
        if part.total > self._blobs.max_bytes:
            raise UserError(f"blob {sha256}: larger than {self._blobs.max_bytes >> 20} MiB")
        path = self._path(uploader, sha256)
        await asyncio.to_thread(self._make_room, uploader, path, part.total)
        with path.open("a+b", buffering=0) as file:
            _lock_file(file, path)
            size = os.fstat(file.fileno()).st_size
            if size < part.start:
                raise UploadOutOfStep(size)
            file.truncate(part.start)
            size = part.start + await self._append(file, part, chunks)
            if size < part.total:
                return size
            await asyncio.to_thread(self._finish, path, file, sha256)
        return size

    def drop(self, device_id: int) -> None:
        """Delete all unfinished uploads of a device."""
        for path in self._folder.glob(f"{uploader_prefix(device_id, None)}*"):
            path.unlink(missing_ok=True)

    async def _append(self, file: FileIO, part: UploadPart, chunks: AsyncIterator[bytes]) -> int:
        arrived = 0
        async with aclosing(_until_idle(chunks, self._idle_s)) as timely:
            async for chunk in timely:
                if arrived + len(chunk) > part.size:
                    raise UserError(f"more than the {part.size} bytes that were announced")
                _write_all(file, chunk)
                arrived += len(chunk)
        return arrived

    def _finish(self, path: Path, file: FileIO, sha256: str) -> None:
        os.fsync(file.fileno())
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
        # renamed first, so that nobody else changes it; another file may have its name by now
        mine = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            os.rename(path, mine)
        if not _is_same_file(file, mine):
            mine.unlink(missing_ok=True)
            raise UploadBusy("another upload took this one's place; send it again")
        if found != sha256:
            mine.unlink()
            raise UserError(
                f"blob {sha256}: what arrived hashes to {found}; the transfer was damaged, "
                "send it again"
            )
        final = self._blobs.location(sha256)
        final.parent.mkdir(exist_ok=True)
        os.replace(mine, final)

    def _make_room(self, uploader: str, path: Path, total: int) -> None:
        """Delete expired uploads of everybody, and the uploader's oldest ones: together they may
        not hold more than one blob may."""
        self._folder.mkdir(exist_ok=True)
        mine, old = [], time.time() - KEEP_PARTIAL_S
        for other in self._folder.iterdir():
            with suppress(FileNotFoundError):
                status = other.stat()
                if status.st_mtime < old:
                    other.unlink()
                elif other != path and other.name.startswith(f"{uploader}."):
                    mine.append((status.st_mtime, status.st_size, other))
        left = self._blobs.max_bytes - total
        for _, size, other in sorted(mine, reverse=True):
            left -= size
            if left < 0:
                other.unlink(missing_ok=True)

    def _path(self, uploader: str, sha256: str) -> Path:
        return self._folder / f"{uploader}.{self._blobs.location(sha256).name}"


def uploader_prefix(device_id: int | None, token_id: int | None) -> str:
    """The prefix of the file names of one token's uploads."""
    return f"{device_id or 0}-{'' if token_id is None else token_id}"


def _lock_file(file: FileIO, path: Path) -> None:
    """Lock the file exclusively, without waiting. Raises ``UploadBusy``."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UploadBusy("another request is sending this blob; try again in a moment") from None
    # its last owner may have renamed or deleted it between our opening and locking
    if not _is_same_file(file, path):
        raise UploadBusy("another upload took this one's place; send it again")


def _write_all(file: FileIO, chunk: bytes) -> None:
    """Write the whole chunk: an unbuffered write may be partial."""
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]


def _is_same_file(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


async def _until_idle(chunks: AsyncIterator[bytes], idle_s: float) -> AsyncGenerator[bytes, None]:
    """The chunks; ends when none comes for ``idle_s``."""
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(chunks)
        except (StopAsyncIteration, TimeoutError):
            return
        yield chunk
