"""Damaged and hostile backups: refused, and nothing half-done is left."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
import zstandard

from orchestrator.domain.errors import FarmError, UserError
from orchestrator.store.backup.archive_format import BadBackup
from orchestrator.store.blobs import FolderBlobs
from orchestrator.store.database import Database
from support.backups import Elsewhere, measured, packed, save, signed, unpacked
from support.farms import FarmKit


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
        with pytest.raises(BadBackup, match="nothing was changed"):
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
        with pytest.raises(BadBackup, match="nothing was changed"):
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
    with pytest.raises(BadBackup, match="a member is called"):
        elsewhere.restore(signed(tmp_path / "bad", {**members, name: b"x"}, manifest))
    manifest["members"].pop()
    with pytest.raises(BadBackup, match="goes on after its last member"):
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
    with pytest.raises(BadBackup, match="another size than its manifest says"):
        elsewhere.restore(signed(tmp_path / "bomb", bomb, manifest))
    # and one whose manifest itself is a thousand times what it should be
    head = tarfile.TarInfo("manifest.json")
    head.size = 1 << 40
    start = head.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)
    (tmp_path / "bomb").write_bytes(zstandard.ZstdCompressor().compress(start))
    with pytest.raises(BadBackup, match=r"manifest\.json is 1099511627776 bytes long"):
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
    with pytest.raises(BadBackup, match=says):
        elsewhere.restore(bad)
    assert elsewhere.is_untouched()
    elsewhere.restore(good)
    before = (elsewhere.rows(), elsewhere.blob_names())
    with pytest.raises(BadBackup, match=says):
        elsewhere.restore(bad, force=True)
    assert (elsewhere.rows(), elsewhere.blob_names()) == before
    assert not [p for p in elsewhere.home.iterdir() if "before-restore" in p.name]
