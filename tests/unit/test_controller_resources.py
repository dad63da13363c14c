"""What a controller takes for itself: its home, its database, its port; and errors that say so."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.client_file import CLIENT_FILE, read_client_file, write_client_file
from orchestrator.domain.errors import FarmError, UserError
from orchestrator.farm_store import open_migrated_database, opened_store
from orchestrator.home import exclusive_home, make_home
from orchestrator.http_server import listening_socket
from orchestrator.settings import Settings


def test_a_home_is_private_and_has_one_controller(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_home(home)
    make_home(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    refused = pytest.raises(UserError, match=f"another controller runs on {home}")
    with exclusive_home(home), refused, exclusive_home(home):
        pass
    with exclusive_home(home):
        pass


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another --home"):
        make_home(tmp_path / "file" / "home")


def test_a_missing_farm_is_opened_only_where_it_is_to_be_created(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(UserError, match="there is no farm here"), opened_store(settings):
        pass
    assert not settings.home.exists()
    with opened_store(settings, create=True) as (database, blobs):
        assert database.revision() == ""
        assert blobs.root == settings.home / "blobs"


def test_an_unusable_database_is_named_without_its_password(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/missing/farm.sqlite3"
    with pytest.raises(FarmError, match="is BENCHFARM_DATABASE_URL right"):
        open_migrated_database(Settings(home=tmp_path, database_url=url))
    url = "postgresql+psycopg://farm:secret@127.0.0.1:1/farm"
    with pytest.raises(FarmError, match=r"farm:\*\*\*@") as caught:
        open_migrated_database(Settings(home=tmp_path, database_url=url))
    assert "secret" not in str(caught.value)


def test_a_port_that_is_taken_is_named() -> None:
    with listening_socket("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        refused = pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}")
        with refused, listening_socket("127.0.0.1", port):
            pass


def test_the_client_file_is_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / CLIENT_FILE
    write_client_file(path, "http://127.0.0.1:1", "secret", "/ca.pem")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = {"url": "http://127.0.0.1:1", "token": "secret", "ca_file": "/ca.pem"}
    assert read_client_file(path) == found
