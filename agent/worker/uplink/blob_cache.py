"""Blobs on the board, by SHA-256: fetched with resume, checked, bounded in size."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from agent.worker.errors import BadInput, BlobCorrupt, ControllerUnreachable, DiskFull

OpenRange = Callable[[str, int], AbstractContextManager[tuple[int, Iterator[bytes]]]]
"""``open(sha256, offset)`` → (where the bytes really start, chunks): ``Uplink.open_blob``."""

HEADROOM_BYTES = 64 << 20
_ROUNDS = 5


@dataclass(frozen=True)
class CacheEntry:
    """One entry of a bounded cache: a blob or an engine. ``used_ns``: when it was last used."""

    key: str
    size_bytes: int
    used_ns: int


def to_evict(
    entries: Collection[CacheEntry], budget_bytes: int, kept: Collection[str]
) -> list[str]:
    """Keys to drop, least recently used first, until the rest fits; never one of ``kept``."""
    surplus = sum(e.size_bytes for e in entries) - budget_bytes
    dropped = []
    for entry in sorted(entries, key=lambda e: (e.used_ns, e.key)):
        if surplus <= 0:
            break
        if entry.key not in kept:
            dropped.append(entry.key)
            surplus -= entry.size_bytes
    return dropped


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class BlobCache:
    """A folder of blobs named by their SHA-256. Thread-safe.

    ``max_bytes`` bounds what is kept; a blob in use is never dropped, even past it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._in_use: Counter[str] = Counter()
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Path of a blob, fetched or not. Raises ``BadInput``: not a SHA-256."""
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise BadInput(
                f"{sha256!r} is not a SHA-256: expected 64 lower-case hexadecimal digits"
            )
        return self._folder / sha256[:2] / sha256

    @contextlib.contextmanager
    def in_use(self, sha256: str, size_bytes: int, open_range: OpenRange) -> Iterator[Path]:
        """Fetch a blob unless it is here, and protect it from eviction while the context is open.

        Raises:
            BlobMissing, BlobCorrupt, DiskFull, ControllerUnreachable.
        """
        with self._lock:
            self._in_use[sha256] += 1
        try:
            path = self.path(sha256)
            if not path.is_file():
                self._fetch(sha256, size_bytes, path, open_range)
            os.utime(path)
            yield path
        finally:
            with self._lock:
                self._in_use[sha256] -= 1
                if not self._in_use[sha256]:
                    del self._in_use[sha256]

    def store(self, content: bytes | Path) -> str:
        """Store a copy of bytes or of a file. Returns its SHA-256."""
        handle, temporary = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as out:
                if isinstance(content, bytes):
                    out.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, out, 1 << 20)
                out.flush()
                os.fsync(out.fileno())
            sha256 = file_sha256(Path(temporary))
            path = self.path(sha256)
            path.parent.mkdir(exist_ok=True)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        self.evict(keep=sha256)
        return sha256

    def evict(self, keep: str = "", incoming_bytes: int = 0) -> None:
        """Drop least recently used blobs until ``incoming_bytes`` more fit."""
        with self._lock:
            in_use = {*self._in_use, keep}
            kept = in_use | {f"{sha256}.part" for sha256 in in_use}
            for name in to_evict(self._entries(), self._max_bytes - incoming_bytes, kept):
                (self._folder / name[:2] / name).unlink(missing_ok=True)

    def _entries(self) -> list[CacheEntry]:
        found = []
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append(CacheEntry(path.name, status.st_size, status.st_mtime_ns))
        return found

    def _fetch(self, sha256: str, size_bytes: int, path: Path, open_range: OpenRange) -> None:
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f"{sha256}.part")
        self.evict(keep=sha256, incoming_bytes=size_bytes)
        _check_space(self._folder, size_bytes)
        unreachable: ControllerUnreachable | None = None
        corrupt = 0
        for _ in range(_ROUNDS):
            try:
                found = _download(part, sha256, size_bytes, open_range)
            except ControllerUnreachable as error:
                unreachable = error
                continue
            if found == sha256:
                os.replace(part, path)
                return
            part.unlink(missing_ok=True)
            corrupt += 1
            if corrupt == 2:
                break
        if corrupt or unreachable is None:
            raise BlobCorrupt(f"blob {sha256}: what arrived has another SHA-256, {corrupt} times")
        raise unreachable


def _download(part: Path, sha256: str, size_bytes: int, open_range: OpenRange) -> str:
    """Append the missing bytes to ``part``. Returns the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with part.open("a+b") as out:
        out.seek(0)
        while chunk := out.read(1 << 20):
            digest.update(chunk)
        if out.tell() < size_bytes or size_bytes <= 0:
            with open_range(sha256, out.tell()) as (start, chunks):
                if start != out.tell():
                    out.truncate(0)
                    digest = hashlib.sha256()
                for chunk in chunks:
                    digest.update(chunk)
                    out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _check_space(folder: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size_bytes + HEADROOM_BYTES:
        raise DiskFull(
            f"{folder} has {free >> 20} MiB free, but {(size_bytes + HEADROOM_BYTES) >> 20} MiB "
            "are needed: free some space"
        )


def is_disk_full(error: OSError) -> bool:
    """Whether an operating system error means that there is no space left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
