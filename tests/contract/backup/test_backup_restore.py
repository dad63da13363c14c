"""Backup and restore on every database: nothing is lost."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from sqlalchemy import select, text

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.report.build import build_report
from orchestrator.service.sweeps import report_data, retention
from orchestrator.store.backup import archive_format
from orchestrator.store.backup.backup import backup
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database, upgrade
from orchestrator.store.tables import Device, Event, Trial
from support.backups import AT, Elsewhere, as_elsewhere, measured, rewritten, save, unpacked
from support.farms import FarmKit, build


def report(kit: FarmKit, name: str = "first") -> str:
    return build_report(report_data.collect_sweep(kit.farm, name)).model_dump_json()


def test_what_is_restored_is_what_was_saved(
    full: FarmKit, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    before = as_elsewhere(full).rows()
    elsewhere.restore(save(full, tmp_path / "farm.backup"))
    assert elsewhere.rows() == before
    assert elsewhere.blob_names() == full.blobs()
    for sha256 in full.blobs():
        assert elsewhere.blobs.read(sha256) == full.farm.blobs.read(sha256)
    other = build(tmp_path / "elsewhere", elsewhere.database.url)
    other.clock.at = full.clock.at
    assert report(other) == report(full)
    # and the farm goes on there: new rows get numbers of their own
    other.beat(other.device_id("board"))
    measured(other, "second")
    assert other.rows()["sweeps"] == 2
    other.farm.database.close()


def test_rows_that_refer_to_later_ones_of_their_table_and_null_in_json_survive(
    full: FarmKit, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    with full.farm.database.transaction() as session:
        first, second = session.scalars(select(Trial).order_by(Trial.id))
        first.waits_for = second.id
        session.add(Device(name="none", device_class="c"))
        session.add(Device(name="null", device_class="c", facts=None))
    elsewhere.restore(save(full, tmp_path / "farm.backup"))
    assert elsewhere.rows() == as_elsewhere(full).rows()
    with elsewhere.database.transaction() as session:
        first, second = session.scalars(select(Trial).order_by(Trial.id))
        assert (first.waits_for, second.waits_for) == (second.id, None)


def test_a_backup_is_one_private_file_that_tar_reads(full: FarmKit, tmp_path: Path) -> None:
    made = save(full, tmp_path / "farm.backup")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir() if "backup" in p.name] == ["farm.backup"]
    assert list(full.farm.blobs.strays()) == []
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(made.read_bytes())
    with tarfile.open(fileobj=BytesIO(plain)) as members:
        names = members.getnames()
        manifest = json.load(members.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert names[:2] == ["manifest.json", "manifest.sha256"]
    assert {n.removeprefix("blobs/") for n in names if n.startswith("blobs/")} == full.blobs()
    assert manifest["rows"]["trials"] == 2
    assert manifest["revision"] == full.farm.database.known_revisions()[-1]


def test_without_blobs_the_tables_alone_are_saved_and_join_blobs_that_are_there(
    full: FarmKit, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    made = save(full, tmp_path / "small.backup", with_blobs=False)
    kept = elsewhere.blobs.put(b"here already")
    elsewhere.restore(made)
    assert elsewhere.blob_names() == {kept}
    assert len(elsewhere.rows()["trials"]) == 2


def test_a_file_that_is_there_is_not_overwritten_unless_told(full: FarmKit, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_text("precious")
    for nowhere in (tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(UserError, match="name a file in a folder that is there"):
            save(full, nowhere, overwrite=True)
    with pytest.raises(UserError, match="is there already"):
        save(full, target)
    assert target.read_text() == "precious"
    save(full, target, overwrite=True)
    assert target.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_leaves_nothing_behind(full: FarmKit, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)]
    if subprocess.run(size, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(FarmError, match="No space left on device"):
            save(full, small / "farm.backup")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_blob_that_is_freed_while_the_backup_is_written_is_in_it(
    full: FarmKit, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot was taken: what it refers to is held, whatever is deleted meanwhile."""
    blobs = full.blobs()
    write = archive_format.BackupWriter.add

    def deleting(
        self: archive_format.BackupWriter, name: str, size: int, chunks: Iterator[bytes]
    ) -> str:
        if name == "manifest.json":
            assert retention.delete_sweep(full.farm, "first").freed_blobs == 2
        return write(self, name, size, chunks)

    monkeypatch.setattr(archive_format.BackupWriter, "add", deleting)
    made = save(full, tmp_path / "farm.backup")
    assert len(full.blobs()) == len(blobs) - 2
    elsewhere.restore(made)
    assert elsewhere.blob_names() == blobs


def test_a_farm_that_works_is_saved_at_one_moment(full: FarmKit, tmp_path: Path) -> None:
    """Each sweep is written, with its event, in one transaction: a backup has both or neither."""
    stop = threading.Event()

    def submit() -> None:
        number = 0
        while not stop.is_set():
            full.submit(f"more-{number}")
            number += 1

    working = threading.Thread(target=submit)
    working.start()
    try:
        made = [save(full, tmp_path / f"{n}.backup", with_blobs=False) for n in range(4)]
    finally:
        stop.set()
        working.join()
    for path in made:
        members = unpacked(path)
        sweeps_ = [json.loads(r)["id"] for r in members["tables/sweeps.jsonl"].splitlines()]
        trials = {json.loads(r)["sweep_id"] for r in members["tables/trials.jsonl"].splitlines()}
        told = [json.loads(r)["kind"] for r in members["tables/events.jsonl"].splitlines()]
        assert trials == set(sweeps_)
        assert told.count("sweep_submitted") == len(sweeps_)


def test_lost_and_damaged_blobs_are_named_and_the_rest_is_saved(
    full: FarmKit, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    lost, damaged, *_ = sorted(full.blobs())
    full.farm.blobs.path(lost).unlink()
    full.farm.blobs.path(damaged).write_bytes(b"rot")
    made = backup(full.farm.database, full.farm.blobs, tmp_path / "b", version="0.1.0", at=AT)
    assert made.manifest.missing == (lost, damaged)
    elsewhere.restore(made.path)
    assert elsewhere.blob_names() == full.blobs() - {damaged}


def test_a_farm_that_is_not_empty_is_refused_or_moved_aside(
    full: FarmKit, farm_on: Callable[[str], FarmKit], elsewhere: Elsewhere, tmp_path: Path
) -> None:
    made = save(full, tmp_path / "farm.backup")
    elsewhere.restore(made)
    with elsewhere.database.transaction() as session:
        session.add(Event(kind="mark", subject="old"))
    extra = elsewhere.blobs.put(b"only here")
    with pytest.raises(UserError, match=r"this farm is not empty .table .* has .* rows"):
        elsewhere.restore(made)
    assert extra in elsewhere.blob_names()
    elsewhere.restore(made, force=True)
    assert elsewhere.rows() == as_elsewhere(full).rows()
    assert elsewhere.blob_names() == full.blobs()
    aside = "before-restore-20260304-050607"
    assert extra in {p.name for p in (elsewhere.home / f"blobs.{aside}").rglob("*")}
    old = "SELECT count(*) FROM {}events WHERE kind = 'mark'"
    if elsewhere.database.engine.dialect.name == "sqlite":
        moved = Database(f"sqlite:///{elsewhere.home / f'farm.sqlite3.{aside}'}")
        with moved.engine.connect() as connection:
            assert connection.scalar(text(old.format(""))) == 1
        moved.close()
    else:
        with elsewhere.database.engine.connect() as connection:
            assert connection.scalar(text(old.format(f'"{aside}".'))) == 1


def test_an_older_farm_is_brought_up_and_a_newer_one_refused_by_name(
    elsewhere: Elsewhere, database_url: str, tmp_path: Path
) -> None:
    old = Database(database_url)
    with old.engine.begin() as connection:
        upgrade(connection, "0001")
        connection.execute(
            text(
                "INSERT INTO sweeps (name, spec, spec_text, attempts, created_at) "
                "VALUES ('kept', '{}', '', 1, '2025-01-01 00:00:00+00:00')"
            )
        )
    blobs = FolderBlobs(tmp_path / "old-blobs")
    made = backup(old, blobs, tmp_path / "old.backup", version="0.0.1", at=AT)
    with old.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'zzzz'"))
    with pytest.raises(FarmError, match="revision zzzz, which this benchfarm does not know"):
        backup(old, blobs, tmp_path / "newer.backup", version="9", at=AT)
    old.close()
    assert made.manifest.revision == "0001"
    newer = rewritten(tmp_path, made.path, {"revision": "zzzz", "benchfarm": "9.9"})
    with pytest.raises(UserError, match=r"made by benchfarm 9\.9 at revision zzzz"):
        elsewhere.restore(newer)
    later = rewritten(tmp_path, made.path, {"format": 7, "benchfarm": "9.9"})
    with pytest.raises(UserError, match=r"format 7, made by benchfarm 9\.9.*upgrade"):
        elsewhere.restore(later)
    assert elsewhere.is_untouched()
    elsewhere.restore(made.path)
    assert elsewhere.database.revision() == elsewhere.database.known_revisions()[-1]
    assert json.loads(elsewhere.rows()["sweeps"][0])["name"] == "kept"
