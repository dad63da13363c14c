"""The controller's blobs: files named by their SHA-256 in a folder, written atomically."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from agent.system.durable import sync_folder
from orchestrator.domain.errors import NotFound, UserError

SHA256 = re.compile(r"[0-9a-f]{64}")
PARTIAL = "partial"
"""The subfolder of unfinished uploads (``store.uploads``)."""


class FolderBlobs:
    """Blobs in folders below ``root``; no blob is larger than ``max_bytes``."""

    def __init__(self, root: Path, max_bytes: int = 4 << 30) -> None:
        self.root = root
        self.max_bytes = max_bytes
        root.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """The path of a stored blob. Raises ``NotFound``."""
        path = self.location(sha256)
        if not path.is_file():
            raise NotFound("blob", sha256, [])
        return path

    def has(self, sha256: str) -> bool:
        return self.location(sha256).is_file()

    def read(self, sha256: str) -> bytes:
        return self.path(sha256).read_bytes()

    def put(self, data: bytes) -> str:
        """Store bytes; returns their SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.put_verified(sha256, data)
        return sha256

    def put_verified(self, sha256: str, data: bytes) -> None:
        """Store bytes that hash to ``sha256``; raises ``UserError`` as ``receive`` does."""
        with _Upload(self, sha256) as upload:
            upload.write(data)

    def put_file(self, path: Path) -> str:
        """Store a copy of a file; returns its SHA-256."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            with _Upload(self, sha256) as upload:
                for chunk in iter(lambda: file.read(1 << 20), b""):
                    upload.write(chunk)
        return sha256

    async def receive(self, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        """Store the bytes that arrive if they hash to ``sha256``; else nothing is kept.

        Raises:
            UserError: the hash differs, or more than ``max_bytes`` arrived.
        """
        with _Upload(self, sha256) as upload:
            async for chunk in chunks:
                upload.write(chunk)
            await asyncio.to_thread(upload.sync)  # may take seconds: off the event loop

    def delete(self, digests: Iterable[str]) -> None:
        """Delete blobs; one that is missing is no error."""
        for sha256 in digests:
            self.location(sha256).unlink(missing_ok=True)

    def stored(self) -> Iterator[Path]:
        """Paths of all stored blobs, in no order."""
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            if SHA256.fullmatch(path.name) and path.parent.name == path.name[:2] and path.is_file():
                yield path

    def strays(self) -> Iterator[Path]:
        """Files and folders that are no blobs: temporary ones of uploads and backups that run now
        or were interrupted."""
        for path in self.root.iterdir():
            if path.name == PARTIAL:
                yield from path.iterdir()
                continue
            if not re.fullmatch("[0-9a-f]{2}", path.name) or not path.is_dir():
                yield path
                continue
            yield from (p for p in path.iterdir() if not SHA256.fullmatch(p.name))

    def location(self, sha256: str) -> Path:
        """The path that a blob has once it is stored. Raises ``UserError``: no SHA-256."""
        if not SHA256.fullmatch(sha256):
            raise UserError(f"{sha256[:80]!r} is not a SHA-256 in lower-case hexadecimal")
        return self.root / sha256[:2] / sha256


class _Upload:
    """A blob being written: a temporary file, renamed at the end if its hash is right."""

    def __init__(self, blobs: FolderBlobs, sha256: str) -> None:
        self._final = blobs.location(sha256)
        self._sha256, self._limit = sha256, blobs.max_bytes
        self._hash, self._size, self._synced = hashlib.sha256(), 0, False

    def __enter__(self) -> _Upload:
        self._final.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._final.parent, prefix=".incoming-")
        self._file, self._temporary = os.fdopen(descriptor, "wb"), Path(name)
        return self

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            raise UserError(f"blob {self._sha256}: larger than {self._limit >> 20} MiB")
        self._hash.update(chunk)
        self._file.write(chunk)
        self._synced = False

    def sync(self) -> None:
        if not self._synced:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._synced = True

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is not None:
                return
            if self._hash.hexdigest() != self._sha256:
                raise UserError(
                    f"blob {self._sha256}: what arrived hashes to {self._hash.hexdigest()}; "
                    "the transfer was damaged, send it again"
                )
            self.sync()
            os.replace(self._temporary, self._final)
            sync_folder(self._final.parent)  # a row that names it is committed after this
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)
