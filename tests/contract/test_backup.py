"""Backup and restore on every database: nothing is lost, and nothing half-done is left."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from sqlalchemy import select, text

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.report.build import build_report
from orchestrator.service import reports, retention
from orchestrator.store import archive, dump
from orchestrator.store.archive import BadArchive
from orchestrator.store.backup import backup
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database, upgrade
from orchestrator.store.models import Device, Event, Trial
from orchestrator.store.restore import restore
from support.farms import FarmKit, build

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def save(kit: FarmKit, target: Path, **options: bool) -> Path:
    backup(kit.farm.database, kit.farm.blobs, target, version="0.1.0", at=AT, **options)
    return target


def measured(kit: FarmKit, name: str = "first") -> None:
    """A sweep of two trials that has ended."""
    kit.submit(name, trials=2)
    board = kit.device_id("board")
    kit.beat(board)
    for samples in ((1000, 1100, 1050), (1001, 1101, 1051)):
        kit.give(board, kit.ok(kit.last_rung(), samples))


@pytest.fixture
def full(farm: FarmKit) -> FarmKit:
    farm.device("board")
    farm.add_model()
    measured(farm)
    return farm


@dataclass
class Elsewhere:
    """A farm that is empty yet."""

    home: Path
    database: Database
    blobs: FolderBlobs

    def restore(self, source: Path, *, force: bool = False) -> None:
        restore(self.database, self.blobs, source, at=AT, force=force)

    def rows(self) -> dict[str, list[str]]:
        found = {}
        with self.database.engine.connect() as connection:
            for table in dump.tables(connection):
                lines = BytesIO()
                dump.write(connection, table, lines)
                found[table.name] = lines.getvalue().decode().splitlines()
        return found

    def blob_names(self) -> set[str]:
        return {path.name for path in self.blobs.stored()}

    def is_untouched(self) -> bool:
        left = {p.name for p in self.home.iterdir()} - {"farm.sqlite3", "blobs"}
        left -= {"farm.sqlite3-wal", "farm.sqlite3-shm"}
        return (self.rows(), self.blob_names(), left) == ({}, set(), set())


@pytest.fixture(params=["sqlite", "postgresql"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Elsewhere]:
    """Of the PostgreSQL server another database than the one that the farm is on."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    if request.param == "sqlite":
        url = f"sqlite:///{home / 'farm.sqlite3'}"
    else:
        server: str = request.getfixturevalue("postgres_url")
        url = server.replace("/postgres?", "/elsewhere?")
        other = Database(server)
        with other.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("DROP DATABASE IF EXISTS elsewhere"))
            connection.execute(text("CREATE DATABASE elsewhere"))
        other.close()
    database = Database(url)
    yield Elsewhere(home, database, FolderBlobs(home / "blobs"))
    database.close()


def as_elsewhere(kit: FarmKit) -> Elsewhere:
    return Elsewhere(kit.farm.settings.home, kit.farm.database, kit.farm.blobs)


def report(kit: FarmKit, name: str = "first") -> str:
    return build_report(reports.collect(kit.farm, name)).model_dump_json()


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
    write = archive.Writer.add

    def deleting(self: archive.Writer, name: str, size: int, chunks: Iterator[bytes]) -> str:
        if name == "manifest.json":
            assert retention.delete_sweep(full.farm, "first").freed_blobs == 2
        return write(self, name, size, chunks)

    monkeypatch.setattr(archive.Writer, "add", deleting)
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


# --- damage


def unpacked(path: Path) -> dict[str, bytes]:
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    with tarfile.open(fileobj=BytesIO(plain)) as members:
        return {m.name: members.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with path.open("wb") as file:
        writer = archive.Writer(file)
        for name, content in members.items():
            writer.add(name, len(content), iter([content]))
        writer.close()
    return path


def rewritten(folder: Path, source: Path, changes: dict[str, object]) -> Path:
    """The archive with another manifest, its checksum right."""
    members = unpacked(source)
    manifest = {**json.loads(members["manifest.json"]), **changes}
    return signed(folder / "rewritten", members, manifest)


def signed(path: Path, members: dict[str, bytes], manifest: object) -> Path:
    text_ = json.dumps(manifest).encode()
    rest = {k: v for k, v in members.items() if not k.startswith("manifest")}
    head = {"manifest.json": text_, "manifest.sha256": archive.checksum(text_)}
    return packed(path, {**head, **rest})


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "member", ["manifest.json", "manifest.sha256", "tables/trials.jsonl", "blobs/"]
)
def test_one_flipped_bit_in_any_member_is_found_and_nothing_changed(
    sqlite_farm: FarmKit, elsewhere: Elsewhere, tmp_path: Path, member: str
) -> None:
    sqlite_farm.device("board")
    sqlite_farm.add_model()
    measured(sqlite_farm)
    members = unpacked(save(sqlite_farm, tmp_path / "good.backup"))
    name = next(n for n in members if n.startswith(member))
    for at in (0, len(members[name]) // 2, len(members[name]) - 1):
        damaged = {**members, name: flipped(members[name], at)}
        with pytest.raises(BadArchive, match="nothing was changed"):
            elsewhere.restore(packed(tmp_path / "bad.backup", damaged))
        assert elsewhere.is_untouched()


def test_a_file_cut_short_damaged_anywhere_or_of_something_else_is_refused(
    sqlite_farm: FarmKit, tmp_path: Path
) -> None:
    good = save(sqlite_farm, tmp_path / "good.backup").read_bytes()
    home = tmp_path / "elsewhere"
    home.mkdir()
    database = Database(f"sqlite:///{home / 'farm.sqlite3'}")
    there = Elsewhere(home, database, FolderBlobs(home / "blobs"))
    bad = tmp_path / "bad.backup"
    cuts = [good[:size] for size in (0, 1, 3, 10, len(good) // 2, len(good) - 1)]
    flips = [flipped(good, at) for at in range(0, len(good), max(1, len(good) // 60))]
    others = [b"PK\x03\x04" + bytes(100), b"\0" * 4096, good + b"more", good + good]
    for content in [*cuts, *flips, *others]:
        bad.write_bytes(content)
        with pytest.raises(BadArchive, match="nothing was changed"):
            there.restore(bad)
        assert there.is_untouched()
    with pytest.raises(UserError, match="there is no such file"):
        there.restore(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a folder"):
        there.restore(tmp_path)
    database.close()


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/outside", "blobs/../../outside", "tables/../x.jsonl", "blobs/ab"]
)
def test_members_that_would_lie_elsewhere_are_refused(
    sqlite_farm: FarmKit, elsewhere: Elsewhere, tmp_path: Path, name: str
) -> None:
    source = save(sqlite_farm, tmp_path / "good.backup")
    members = unpacked(source)
    manifest = json.loads(members["manifest.json"])
    sha256 = "0" * 64
    manifest["members"].append({"name": name, "size_bytes": 1, "sha256": sha256})
    with pytest.raises(BadArchive, match="a member is called"):
        elsewhere.restore(signed(tmp_path / "bad", {**members, name: b"x"}, manifest))
    manifest["members"].pop()
    with pytest.raises(BadArchive, match="goes on after its last member"):
        elsewhere.restore(signed(tmp_path / "bad", {**members, name: b"x"}, manifest))
    assert elsewhere.is_untouched()


def test_a_bomb_is_refused_before_it_is_unpacked(
    sqlite_farm: FarmKit, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    source = save(sqlite_farm, tmp_path / "good.backup")
    members = unpacked(source)
    manifest = json.loads(members["manifest.json"])
    huge: dict[str, object] = {
        "name": "blobs/" + "0" * 64,
        "size_bytes": 1 << 60,
        "sha256": "0" * 64,
    }
    manifest["members"].append(huge)
    with pytest.raises(FarmError, match=r"unpacks to .* MiB are free"):
        elsewhere.restore(signed(tmp_path / "bomb", members, manifest))
    # one whose manifest says less than there is: its header contradicts it
    manifest["members"][-1] = {**huge, "size_bytes": 10}
    bomb = {**members, str(huge["name"]): bytes(50 << 20)}
    with pytest.raises(BadArchive, match="another size than its manifest says"):
        elsewhere.restore(signed(tmp_path / "bomb", bomb, manifest))
    # and one whose manifest itself is a thousand times what it should be
    head = tarfile.TarInfo("manifest.json")
    head.size = 1 << 40
    start = head.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)
    (tmp_path / "bomb").write_bytes(zstandard.ZstdCompressor().compress(start))
    with pytest.raises(BadArchive, match=r"manifest\.json is 1099511627776 bytes long"):
        elsewhere.restore(tmp_path / "bomb")
    assert elsewhere.is_untouched()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b'{"id":1,"nothing":2}', "unknown columns"),
        (b'{"id":"one"}', "expected int"),
        (b"[1]", "unknown columns"),
        (b'{"id":1,"at":"yesterday"}', "no row of this table"),
        (b'{"id":1,"at":"2025-01-01T00:00:00"}', "without its zone"),
        (b'{"id":1}', "NOT NULL|not-null|null value"),
    ],
)
def test_rows_that_do_not_fit_leave_the_farm_as_it_was(
    full: FarmKit, elsewhere: Elsewhere, tmp_path: Path, row: bytes, says: str
) -> None:
    """Also where a farm was there: with --force it is moved back."""
    good = save(full, tmp_path / "good.backup")
    members = unpacked(good)
    members["tables/events.jsonl"] = row + b"\n"
    manifest = json.loads(members["manifest.json"])
    manifest["rows"]["events"] = 1
    for entry in manifest["members"]:
        if entry["name"] == "tables/events.jsonl":
            entry["size_bytes"] = len(row) + 1
            entry["sha256"] = hashlib.sha256(row + b"\n").hexdigest()
    bad = signed(tmp_path / "bad.backup", members, manifest)
    with pytest.raises(BadArchive, match=says):
        elsewhere.restore(bad)
    assert elsewhere.is_untouched()
    elsewhere.restore(good)
    before = (elsewhere.rows(), elsewhere.blob_names())
    with pytest.raises(BadArchive, match=says):
        elsewhere.restore(bad, force=True)
    assert (elsewhere.rows(), elsewhere.blob_names()) == before
    assert not [p for p in elsewhere.home.iterdir() if "before-restore" in p.name]
