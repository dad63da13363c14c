"""The boards' addresses and host keys go through a backup; private keys and wheels do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.provisioning.boards import AddressBook, BoardAddress
from orchestrator.store.backup.archive_format import BadBackup
from orchestrator.store.backup.backup import backup
from orchestrator.store.backup.restore import restore
from support.backups import AT, as_elsewhere
from support.farms import FarmKit

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n"


def fill(home: Path) -> Path:
    book = AddressBook(home)
    book.put("pi-01", BoardAddress("ubuntu@10.0.0.7", "/home/ann/.ssh/id_ed25519"))
    book.put("nuc", BoardAddress("nuc.lab"))
    folder = home / "boards"
    (folder / "known_hosts").write_text("10.0.0.7 ssh-ed25519 AAAA\n")
    (folder / "pi-01.lock").write_text("")
    (folder / "wheels").mkdir()
    (folder / "wheels" / "big.whl").write_text(KEY)
    (folder / "id_ed25519").write_text(KEY)
    (folder / "stray.json").write_text(f'"{KEY!r}"')
    (folder / "other.json").write_text('{"ssh": "x", "key": "y"}')
    return folder


def test_addresses_and_host_keys_come_back(farm: FarmKit, tmp_path: Path) -> None:
    farm.device("pi-01")
    made = backup(
        farm.farm.database, farm.farm.blobs, tmp_path / "b", version="0.1.0", at=AT,
        boards=fill(tmp_path / "old"),
    )  # fmt: skip
    assert (made.manifest.boards, made.manifest.format) == (["nuc", "pi-01"], 2)
    there, new = as_elsewhere(farm), tmp_path / "new"
    AddressBook(new).put("nuc", BoardAddress("moved.lab"))
    restore(there.database, there.blobs, made.path, at=AT, force=True, boards=new / "boards")
    book = AddressBook(new)
    assert book.get("pi-01") == BoardAddress("ubuntu@10.0.0.7", "/home/ann/.ssh/id_ed25519")
    assert book.get("nuc") == BoardAddress("nuc.lab")
    found = {p.name: p for p in (new / "boards").iterdir()}
    aside = "nuc.json.before-restore-20260304-050607"
    assert set(found) == {"pi-01.json", "nuc.json", "known_hosts", aside}
    assert "moved.lab" in found[aside].read_text()
    assert all(p.stat().st_mode & 0o077 == 0 for p in found.values())


def test_a_restore_that_fails_leaves_the_boards_as_they_were(
    farm: FarmKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup(
        farm.farm.database, farm.farm.blobs, tmp_path / "b", version="0.1.0", at=AT,
        boards=fill(tmp_path / "old"),
    )  # fmt: skip
    there, new = as_elsewhere(farm), tmp_path / "new"
    AddressBook(new).put("nuc", BoardAddress("moved.lab"))
    from orchestrator.store.backup import table_dump

    def broken(*_: object) -> int:
        raise table_dump.BadRows("torn")

    monkeypatch.setattr(table_dump, "load_table", broken)
    with pytest.raises(BadBackup, match="nothing was changed"):
        restore(there.database, there.blobs, made.path, at=AT, force=True, boards=new / "boards")
    assert [p.name for p in (new / "boards").iterdir()] == ["nuc.json"]
    assert AddressBook(new).get("nuc") == BoardAddress("moved.lab")


def test_a_farm_without_boards_is_read_by_an_older_benchfarm(
    sqlite_farm: FarmKit, tmp_path: Path
) -> None:
    store = sqlite_farm.farm
    made = backup(store.database, store.blobs, tmp_path / "b", version="0.1.0", at=AT)
    assert (made.manifest.boards, made.manifest.format) == ([], 1)
