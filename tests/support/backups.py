"""Backing up and restoring farms, and editing backups."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import zstandard

from orchestrator.store.backup import archive_format, table_dump
from orchestrator.store.backup.backup import backup
from orchestrator.store.backup.restore import restore
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database
from support.farms import FarmKit

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def save(kit: FarmKit, target: Path, *, with_blobs: bool = True, overwrite: bool = False) -> Path:
    backup(
        kit.farm.database,
        kit.farm.blobs,
        target,
        version="0.1.0",
        at=AT,
        with_blobs=with_blobs,
        overwrite=overwrite,
    )
    return target


def measured(kit: FarmKit, name: str = "first") -> None:
    """A sweep of two trials that has ended."""
    kit.submit(name, trials=2)
    board = kit.device_id("board")
    kit.beat(board)
    for samples in ((1000, 1100, 1050), (1001, 1101, 1051)):
        kit.give(board, kit.ok(kit.last_rung(), samples))


@dataclass
class Elsewhere:
    """An empty farm to restore into."""

    home: Path
    database: Database
    blobs: FolderBlobs

    def restore(self, source: Path, *, force: bool = False) -> None:
        restore(self.database, self.blobs, source, at=AT, force=force)

    def rows(self) -> dict[str, list[str]]:
        found = {}
        with self.database.engine.connect() as connection:
            for table in table_dump.reflected_tables(connection):
                lines = BytesIO()
                table_dump.dump_table(connection, table, lines)
                found[table.name] = lines.getvalue().decode().splitlines()
        return found

    def blob_names(self) -> set[str]:
        return {path.name for path in self.blobs.stored()}

    def is_untouched(self) -> bool:
        left = {p.name for p in self.home.iterdir()} - {"farm.sqlite3", "blobs"}
        left -= {"farm.sqlite3-wal", "farm.sqlite3-shm"}
        return (self.rows(), self.blob_names(), left) == ({}, set(), set())


def as_elsewhere(kit: FarmKit) -> Elsewhere:
    return Elsewhere(kit.farm.settings.home, kit.farm.database, kit.farm.blobs)


def unpacked(path: Path) -> dict[str, bytes]:
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    with tarfile.open(fileobj=BytesIO(plain)) as members:
        return {m.name: members.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with path.open("wb") as file:
        writer = archive_format.BackupWriter(file)
        for name, content in members.items():
            writer.add(name, len(content), iter([content]))
        writer.close()
    return path


def rewritten(folder: Path, source: Path, changes: dict[str, object]) -> Path:
    """The archive with a changed manifest and a matching checksum."""
    members = unpacked(source)
    manifest = {**json.loads(members["manifest.json"]), **changes}
    return signed(folder / "rewritten", members, manifest)


def signed(path: Path, members: dict[str, bytes], manifest: object) -> Path:
    text_ = json.dumps(manifest).encode()
    rest = {k: v for k, v in members.items() if not k.startswith("manifest")}
    head = {"manifest.json": text_, "manifest.sha256": archive_format.checksum(text_)}
    return packed(path, {**head, **rest})
