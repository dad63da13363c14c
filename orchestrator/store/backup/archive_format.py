"""The format of a backup: a zstd-compressed tar archive whose first member lists the others.

Members, in this order: ``manifest.json``, ``manifest.sha256``, ``tables/NAME.jsonl``,
``boards/NAME`` (since format 2) and ``blobs/SHA256``. Any ``tar`` unpacks it; this reader unpacks
only what ``BackupManifest`` lists.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.errors import UserError
from orchestrator.store.backup import board_files
from orchestrator.store.backup.board_files import BOARDS

FORMAT: Literal[2] = 2
MANIFEST, CHECKSUM = "manifest.json", "manifest.sha256"
MAX_MANIFEST_BYTES = 512 << 20
BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
COMPRESSED_CHUNK = 1 << 10
"""A zstd block of 4 bytes may expand to 128 KiB: this many bytes expand to 32 MiB at most."""
MEMBER = re.compile(
    rf"tables/[a-z0-9_]{{1,60}}\.jsonl|blobs/[0-9a-f]{{64}}|boards/({board_files.NAME.pattern})"
)
BLOB = "blobs/"


class BadBackup(UserError):
    """The file is no backup, or it is damaged."""

    kind = "bad_archive"


class BackupMember(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    size_bytes: int = Field(ge=0)
    sha256: str


class BackupManifest(BaseModel):
    """What a backup contains.

    Attributes:
        revision: the schema revision of its tables.
        rows: number of rows by table.
        missing: blobs that rows refer to, but were missing or damaged when the backup was made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1, 2] = FORMAT
    benchfarm: str
    revision: str
    database: str
    created_at: str
    rows: dict[str, int]
    with_blobs: bool
    missing: tuple[str, ...]
    members: tuple[BackupMember, ...]

    @property
    def size_bytes(self) -> int:
        return sum(m.size_bytes for m in self.members)

    @property
    def boards(self) -> list[str]:
        """Names of the boards whose addresses it holds."""
        names = (m.name.removeprefix(BOARDS) for m in self.members if m.name.startswith(BOARDS))
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    @property
    def blobs(self) -> int:
        return sum(m.name.startswith(BLOB) for m in self.members)


class BackupWriter:
    """Writes members one after the other into ``file``; ``close`` ends the archive."""

    def __init__(self, file: IO[bytes]) -> None:
        compressor = zstandard.ZstdCompressor(level=6, write_checksum=True)
        self._out = compressor.stream_writer(file, closefd=False)

    def add(self, name: str, size_bytes: int, chunks: Iterator[bytes]) -> str:
        """Write one member; bytes beyond ``size_bytes`` are cut. Returns the SHA-256 of the rest.

        Raises ``OSError`` where there are fewer bytes.
        """
        header = tarfile.TarInfo(name)
        header.size, header.mode = size_bytes, 0o600
        self._out.write(header.tobuf(tarfile.GNU_FORMAT))
        digest, left = hashlib.sha256(), size_bytes
        for chunk in chunks:
            part = chunk[:left]
            digest.update(part)
            self._out.write(part)
            left -= len(part)
        if left:
            raise OSError(f"{name}: {left} bytes are missing")
        self._out.write(bytes(-size_bytes % BLOCK))
        return digest.hexdigest()

    def close(self) -> None:
        self._out.write(bytes(2 * BLOCK))
        self._out.flush(zstandard.FLUSH_FRAME)


class BackupReader:
    """Reads an untrusted archive's manifest and then its members in one pass over ``file``.

    Every header must be a regular file's, of the name and size that the manifest lists next, and
    memory is bounded whatever the file contains.

    Raises:
        BadBackup: in every method.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._name = name
        self._in = file
        self._frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        self._ready = memoryview(b"")
        text = self._small_member(MANIFEST, MAX_MANIFEST_BYTES)
        if self._small_member(CHECKSUM, 1000) != checksum(text):
            raise self._error("its manifest was changed")
        self.manifest = self._manifest(text)

    def unpack(self, folder: Path) -> None:
        """Write every member below ``folder`` under its name, and check its hash."""
        for member in self.manifest.members:
            self._next_header(member.name, member.size_bytes)
            digest = hashlib.sha256()
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with path.open("xb") as file:
                for chunk in self._chunks(member.size_bytes):
                    digest.update(chunk)
                    file.write(chunk)
            self._skip_padding(member.size_bytes)
            if digest.hexdigest() != member.sha256:
                raise self._error(f"{member.name} is damaged")
        if self._read_exactly(2 * BLOCK).strip(b"\0") or self._read(1):
            raise self._error("it goes on after its last member")

    def _manifest(self, text: bytes) -> BackupManifest:
        try:
            found = json.loads(text)
            number = found.get("format") if isinstance(found, dict) else None
            if isinstance(number, int) and number > FORMAT:
                made_by = str(found.get("benchfarm"))[:40]
                raise UserError(
                    f"{self._name} is of format {number}, made by benchfarm {made_by}; this one "
                    f"reads {FORMAT}: upgrade benchfarm first"
                )
            manifest = BackupManifest.model_validate(found)
        except (ValidationError, ValueError, RecursionError) as error:
            raise self._error(f"its manifest is none: {str(error)[:200]}") from None
        names = [m.name for m in manifest.members]
        for member in manifest.members:
            if not MEMBER.fullmatch(member.name):
                raise self._error(f"a member is called {member.name[:80]!r}")
            if member.name.startswith(BLOB) and member.name != BLOB + member.sha256:
                raise self._error(f"{member.name} is not called by its hash")
        if len(set(names)) != len(names):
            raise self._error("a member is listed twice")
        return manifest

    def _small_member(self, name: str, max_bytes: int) -> bytes:
        size = self._next_header(name, None)
        if size > max_bytes:
            raise self._error(f"{name} is {size} bytes long")
        text = b"".join(self._chunks(size))
        self._skip_padding(size)
        return text

    def _next_header(self, name: str, size: int | None) -> int:
        try:
            header = tarfile.TarInfo.frombuf(self._read_exactly(BLOCK), "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise self._error(f"{error} where {name} should begin") from None
        if header.name != name or header.type != tarfile.REGTYPE:
            raise self._error(f"{header.name[:80]!r} stands where {name} should")
        if header.size < 0 or (size is not None and header.size != size):
            raise self._error(f"{name} has another size than its manifest says")
        return header.size

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self._read_exactly(min(size, CHUNK))
            yield chunk
            size -= len(chunk)

    def _skip_padding(self, size: int) -> None:
        if self._read_exactly(-size % BLOCK).strip(b"\0"):
            raise self._error("there is something between two members")

    def _read_exactly(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            part = self._read(left)
            if not part:
                raise self._error("it is cut short")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        """At least one byte, at most ``size``; empty at the end of the compressed frame."""
        while not self._ready:
            if self._frame.eof:
                if self._frame.unused_data or self._in.read(1):
                    raise self._error("something follows its end")
                return b""
            given = self._in.read(COMPRESSED_CHUNK)
            if not given:
                raise self._error("it is cut short")
            try:
                self._ready = memoryview(self._frame.decompress(given))
            except zstandard.ZstdError as error:
                raise self._error(f"it cannot be decompressed: {error}") from None
        found, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return found

    def _error(self, why: str) -> BadBackup:
        return BadBackup(
            f"{self._name}: not a backup, or a damaged one: {why}; nothing was changed"
        )


def checksum(manifest: bytes) -> bytes:
    """The content of ``manifest.sha256``, in the format of ``sha256sum``."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")
