"""Where boards were last reached: one file a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.errors import UserError
from orchestrator.provisioning.boards import AddressBook, BoardAddress


def test_an_address_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    kept = AddressBook(tmp_path)
    assert kept.get("pi-01") is None
    kept.put("pi-01", BoardAddress("ubuntu@10.0.0.7", "key"))
    assert AddressBook(tmp_path).get("pi-01") == BoardAddress("ubuntu@10.0.0.7", "key")
    kept.forget("pi-01")
    kept.forget("pi-01")
    assert kept.get("pi-01") is None


@pytest.mark.parametrize("name", ["../pi-01", "/etc/passwd", "", "a" * 64, "-a"])
def test_a_name_leads_to_no_other_file(tmp_path: Path, name: str) -> None:
    kept = AddressBook(tmp_path)
    (tmp_path / "pi-01.json").write_text("{}")
    for use in (kept.get, kept.forget, lambda name: kept.put(name, BoardAddress("host"))):
        with pytest.raises(UserError, match="expected 1 to 63 of a-z"):
            use(name)
    assert [path.name for path in tmp_path.rglob("*.json")] == ["pi-01.json"]
