"""Backing up a farm into one file, while it runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.store.backup import board_files, table_dump
from orchestrator.store.backup.archive_format import (
    BLOB,
    CHECKSUM,
    FORMAT,
    MANIFEST,
    BackupManifest,
    BackupMember,
    BackupWriter,
    checksum,
    chunks_of,
)
from orchestrator.store.backup.board_files import BOARDS
from orchestrator.store.blob_references import references
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database

SNAPSHOT_TRIES = 5
"""Snapshots that are taken before a missing blob counts as lost and not as deleted meanwhile."""


@dataclass(frozen=True)
class WrittenBackup:
    """A backup that was written."""

    path: Path
    size_bytes: int
    manifest: BackupManifest


def backup(
    database: Database,
    blobs: FolderBlobs,
    target: Path,
    *,
    version: str,
    at: datetime,
    with_blobs: bool = True,
    overwrite: bool = False,
    boards: Path | None = None,
) -> WrittenBackup:
    """Write ``target`` atomically, with mode 0600.

    ``boards``: the folder with the boards' addresses and host keys, which go into it.

    Raises:
        UserError: ``target`` exists, or cannot be written there.
        FarmError: the database has no known schema revision, or the disk is full.
    """
    revision = database.revision()
    if revision not in database.known_revisions():
        raise FarmError(
            f"the database is at revision {revision or 'none'}, which this benchfarm does not "
            "know; take the backup with the benchfarm that made it"
        )
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(f"{target} cannot be written: name a file in a folder that is there")
    if target.exists() and not overwrite:
        raise UserError(f"{target} is there already; choose another name, or say --force")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as name:
            folder = Path(name)
            with _snapshot(database, blobs, folder, with_blobs) as snapshot:
                archive = folder / "archive"
                known = board_files.copy_all(boards, folder / "boards")
                manifest = _write_archive(
                    archive, folder, snapshot, known, database, revision, version, at, with_blobs
                )
            size = archive.stat().st_size
            if target.exists() and not overwrite:
                raise UserError(f"{target} is there already; choose another name, or say --force")
            os.replace(archive, target)
    except PermissionError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from None
    except OSError as error:
        raise FarmError(
            f"{target} could not be written: {error.strerror or error}; nothing is left of it"
        ) from None
    return WrittenBackup(target, size, manifest)


@dataclass
class _Snapshot:
    """One state of the database.

    Attributes:
        rows: number of rows by table; the rows are files already.
        blobs: digest → a hard link or copy, which outlives the blob's deletion.
        missing: digests of blobs that are referred to but not stored.
    """

    rows: dict[str, int]
    blobs: dict[str, Path]
    missing: set[str]


@contextmanager
def _snapshot(
    database: Database, blobs: FolderBlobs, folder: Path, with_blobs: bool
) -> Iterator[_Snapshot]:
    """Dump the tables at one moment, and link every blob that they refer to: a blob that is deleted
    while the archive is written keeps its bytes under the link."""
    links = Path(tempfile.mkdtemp(dir=blobs.root, prefix=".backup-"))
    try:
        for number in range(SNAPSHOT_TRIES):
            with database.repeatable_read() as session:
                rows = _dump(session, folder)
                wanted = {r.sha256 for r in references(session)} if with_blobs else set()
            linked = {d: path for d in sorted(wanted) if (path := _link_blob(blobs, links, d))}
            missing = wanted - set(linked)
            if not missing or number == SNAPSHOT_TRIES - 1:
                yield _Snapshot(rows, linked, missing)
                return
    finally:
        shutil.rmtree(links, ignore_errors=True)


def _dump(session: Session, folder: Path) -> dict[str, int]:
    connection: Connection = session.connection()
    (folder / "tables").mkdir(exist_ok=True)
    rows = {}
    for table in table_dump.reflected_tables(connection):
        with (folder / "tables" / f"{table.name}.jsonl").open("wb") as file:
            rows[table.name] = table_dump.dump_table(connection, table, file)
    return rows


def _link_blob(blobs: FolderBlobs, links: Path, sha256: str) -> Path | None:
    place, link = blobs.location(sha256), links / sha256
    if link.exists():
        return link
    try:
        os.link(place, link)
    except FileNotFoundError:
        return None
    except OSError:  # a file system without hard links: copy
        try:
            shutil.copyfile(place, link)
        except FileNotFoundError:
            return None
    return link


def _write_archive(
    archive: Path,
    folder: Path,
    snapshot: _Snapshot,
    boards: list[Path],
    database: Database,
    revision: str,
    version: str,
    at: datetime,
    with_blobs: bool,
) -> BackupManifest:
    tables = [folder / "tables" / f"{name}.jsonl" for name in snapshot.rows]
    members = [_member(f"tables/{path.name}", path) for path in tables]
    members += [_member(BOARDS + path.name, path) for path in boards]
    intact = {}
    for sha256, path in snapshot.blobs.items():
        member = _member(BLOB + sha256, path)
        if member.sha256 == sha256:
            intact[sha256] = path
            members.append(member)
    manifest = BackupManifest(
        format=FORMAT if boards else 1,  # an older benchfarm reads one without boards
        benchfarm=version,
        revision=revision,
        database=database.engine.dialect.name,
        created_at=at.isoformat(),
        rows=snapshot.rows,
        with_blobs=with_blobs,
        missing=tuple(sorted(snapshot.missing | (set(snapshot.blobs) - set(intact)))),
        members=tuple(members),
    )
    text = manifest.model_dump_json().encode()
    with open(archive, "xb", opener=_open_private) as file:
        writer = BackupWriter(file)
        for name, content in ((MANIFEST, text), (CHECKSUM, checksum(text))):
            writer.add(name, len(content), iter([content]))
        for member, path in zip(members, [*tables, *boards, *intact.values()], strict=True):
            if writer.add(member.name, member.size_bytes, chunks_of(path)) != member.sha256:
                raise FarmError(f"{member.name} changed while it was read: is the disk failing?")
        writer.close()
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _member(name: str, path: Path) -> BackupMember:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return BackupMember(name=name, size_bytes=path.stat().st_size, sha256=sha256)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
