"""Restoring a farm from a backup: verified completely before anything is changed, all or
nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, MetaData, Table, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.store.backup import table_dump
from orchestrator.store.backup.archive_format import BLOB, BackupManifest, BackupReader, BadBackup
from orchestrator.store.backup.board_files import BOARDS
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database, upgrade

FREE_SPACE_FACTOR = 1.05
"""Free disk space that is required, in multiples of the unpacked size."""


@dataclass(frozen=True)
class Restored:
    """``aside``: suffix of the names to which the previous content was moved; empty: there was
    none."""

    manifest: BackupManifest
    aside: str


def restore(
    database: Database,
    blobs: FolderBlobs,
    source: Path,
    *,
    at: datetime,
    force: bool = False,
    boards: Path | None = None,
) -> Restored:
    """Fill an empty database and an empty blob folder from ``source``.

    ``force``: existing content is moved aside first; it is never deleted. ``boards``: the folder
    for the boards' addresses and host keys; a file there that differs is moved aside.

    Raises:
        BadBackup: no backup, or a damaged one.
        UserError: ``source`` is missing, is of a newer benchfarm, or this farm is not empty.
        FarmError: too little disk space, or the database refuses.
    """
    home = blobs.root.parent
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=home, prefix=".restore-") as name:
        staged = Path(name)
        manifest = _unpack_verified(source, staged, database)
        full = _existing_content(database, blobs, manifest)
        if full and not force:
            raise UserError(
                f"this farm is not empty ({full}); restore into another --home or database, or say "
                "--force, which moves aside what is here"
            )
        suffix = f"before-restore-{at:%Y%m%d-%H%M%S}"
        aside = suffix if full else ""
        moves = _Moves()
        restore_into = (
            _restore_sqlite if database.engine.dialect.name == "sqlite" else _restore_postgresql
        )
        try:
            _place_boards(boards, staged, suffix, moves)
            restore_into(database, blobs, staged, manifest, aside, moves)
        except BaseException as error:
            moves.undo()
            if isinstance(error, SQLAlchemyError | table_dump.BadRows):
                raise _rows_refused(source, error) from None
            raise
    return Restored(manifest, aside)


def _place_boards(boards: Path | None, staged: Path, suffix: str, moves: _Moves) -> None:
    found = sorted((staged / BOARDS).iterdir()) if (staged / BOARDS).is_dir() else []
    if boards is None or not found:
        return
    boards.mkdir(parents=True, exist_ok=True, mode=0o700)
    for source in found:
        target = boards / source.name
        if target.exists():
            if target.read_bytes() == source.read_bytes():
                continue
            moves.move(target, target.with_name(f"{target.name}.{suffix}"))
        moves.copy(source, target)


class _Moves:
    """Renames and copies that can be undone."""

    def __init__(self) -> None:
        self._done: list[tuple[Path, Path]] = []

    def copy(self, source: Path, target: Path) -> None:
        """Copy to where there is nothing; the folders may be on different disks."""
        self._done.append((source, target))
        shutil.copyfile(source, target)
        target.chmod(0o600)

    def move(self, source: Path, target: Path) -> None:
        os.rename(source, target)
        self._done.append((source, target))

    def undo(self) -> None:
        while self._done:
            source, target = self._done.pop()
            if source.exists():  # it was copied
                target.unlink(missing_ok=True)
            else:
                os.rename(target, source)


def _restore_postgresql(
    database: Database,
    blobs: FolderBlobs,
    staged: Path,
    manifest: BackupManifest,
    aside: str,
    moves: _Moves,
) -> None:
    with database.engine.begin() as connection:
        there = [*table_dump.reflected_tables(connection), *_version_table(connection)]
        if aside:
            quoted = connection.dialect.identifier_preparer.quote(aside)
            connection.execute(text(f"CREATE SCHEMA {quoted}"))
            for table in there:
                connection.execute(text(f"ALTER TABLE {table.name} SET SCHEMA {quoted}"))
        else:
            for table in reversed(there):
                table.drop(connection)
        _fill_tables(connection, staged, manifest)
        _place_blobs(blobs, staged, manifest, aside, moves)


def _restore_sqlite(
    database: Database,
    blobs: FolderBlobs,
    staged: Path,
    manifest: BackupManifest,
    aside: str,
    moves: _Moves,
) -> None:
    """Build SQLite's file beside the old one, which it replaces at the very end."""
    assert database.engine.url.database is not None
    path = Path(database.engine.url.database)
    new = path.with_name(f".{path.name}.restored")
    new.unlink(missing_ok=True)
    restored = Database(f"sqlite:///{new}")
    try:
        with restored.engine.begin() as connection:
            _fill_tables(connection, staged, manifest)
        restored.close()  # merges the write-ahead log into the file
        database.close()
        _place_blobs(blobs, staged, manifest, aside, moves)
        for ending in ("", "-wal", "-shm"):
            old = path.with_name(path.name + ending)
            if aside and old.exists():
                moves.move(old, path.with_name(f"{path.name}.{aside}{ending}"))
        os.replace(new, path)
    finally:
        restored.close()
        new.unlink(missing_ok=True)


def _version_table(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection, only=lambda name, _: name == table_dump.VERSION_TABLE)
    return list(found.sorted_tables)


def _fill_tables(connection: Connection, staged: Path, manifest: BackupManifest) -> None:
    """Create the tables at the archive's revision, insert its rows, upgrade to the newest
    revision."""
    upgrade(connection, manifest.revision)
    tables = table_dump.reflected_tables(connection)
    if {t.name for t in tables} != set(manifest.rows):
        raise table_dump.BadRows(f"its tables are {', '.join(sorted(manifest.rows))}")
    for table in tables:
        with (staged / "tables" / f"{table.name}.jsonl").open("rb") as file:
            count = table_dump.load_table(connection, table, file)
        if count != manifest.rows[table.name]:
            raise table_dump.BadRows(
                f"{table.name} has {count} rows, not {manifest.rows[table.name]}"
            )
    upgrade(connection, "head")


def _place_blobs(
    blobs: FolderBlobs, staged: Path, manifest: BackupManifest, aside: str, moves: _Moves
) -> None:
    if not manifest.with_blobs:
        return
    placed = staged / "placed"
    placed.mkdir()
    for member in manifest.members:
        if member.name.startswith(BLOB):
            (placed / member.sha256[:2]).mkdir(exist_ok=True)
            os.rename(staged / member.name, placed / member.sha256[:2] / member.sha256)
    if blobs.root.exists():
        moves.move(blobs.root, blobs.root.with_name(f"blobs.{aside}") if aside else staged / "old")
    moves.move(placed, blobs.root)


def _rows_refused(source: Path, error: Exception) -> BadBackup:
    first = str(error).strip().splitlines()[0][:300]
    return BadBackup(f"{source}: its rows do not go into the tables: {first}; nothing was changed")


def _unpack_verified(source: Path, staged: Path, database: Database) -> BackupManifest:
    """Unpack every member of the archive below ``staged`` and verify it."""
    try:
        with source.open("rb") as file:
            reader = BackupReader(file, str(source))
            manifest = reader.manifest
            known = database.known_revisions()
            if manifest.revision not in known:
                raise UserError(
                    f"{source} was made by benchfarm {manifest.benchfarm} at revision "
                    f"{manifest.revision}; this one knows up to {known[-1]}: upgrade it first"
                )
            free = shutil.disk_usage(staged).free
            if manifest.size_bytes * FREE_SPACE_FACTOR > free:
                raise FarmError(
                    f"{source} unpacks to {manifest.size_bytes >> 20} MiB, and {free >> 20} MiB "
                    f"are free at {staged.parent}"
                )
            reader.unpack(staged)
    except IsADirectoryError:
        raise UserError(f"{source} is a folder; give the file of a backup") from None
    except FileNotFoundError as error:
        if error.filename == str(source):
            raise UserError(f"{source}: there is no such file") from None
        raise
    except OSError as error:
        raise FarmError(f"{source} could not be unpacked: {error.strerror}") from None
    return manifest


def _existing_content(database: Database, blobs: FolderBlobs, manifest: BackupManifest) -> str:
    """What restoring would replace, in words; empty where there is nothing."""
    with database.engine.connect() as connection:
        for table in table_dump.reflected_tables(connection):
            count = connection.scalar(select(func.count()).select_from(table))
            if count:
                return f"table {table.name} has {count} rows"
    if manifest.with_blobs and next(blobs.stored(), None) is not None:
        return f"there are blobs in {blobs.root}"
    return ""
