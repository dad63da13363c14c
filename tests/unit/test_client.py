"""What the client refuses before it asks the controller, and where it reads whom to ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.client import Client
from orchestrator.client_file import CLIENT_FILE, read_client_file
from orchestrator.domain.errors import NotAllowed, UserError
from orchestrator.settings import Settings, read_settings


@pytest.mark.parametrize("url", ["", "farm", "farm:8470", "ftp://farm", "http://", "http://a:b"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(UserError, match="expected http://HOST:PORT"):
        Client(url, "secret")


def test_a_host_that_cannot_be_looked_up_is_no_trace() -> None:
    with (
        Client("http://bad..host", "secret") as client,
        pytest.raises(Exception, match="answers at"),
    ):
        client.models()


def test_a_token_of_other_letters_is_refused() -> None:
    with pytest.raises(NotAllowed, match="BENCHFARM_TOKEN"):
        Client("http://farm", "schlüssel")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../devices"])
def test_a_name_cannot_lead_elsewhere(name: str) -> None:
    with Client("http://127.0.0.1:1", "secret") as client:
        for ask in (client.model, client.device, client.sweep, client.report):
            with pytest.raises(UserError, match="there is no"):
                ask(name)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "http://farm"}'])
def test_a_damaged_note_says_how_to_get_another(tmp_path: Path, text: str) -> None:
    path = tmp_path / CLIENT_FILE
    assert read_client_file(path) == {}
    path.write_text(text)
    with pytest.raises(UserError, match="benchfarm up"):
        Client.from_home(Settings(home=tmp_path))
    Client.from_home(Settings(home=tmp_path), "http://farm", "secret").__exit__(None, None, None)


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHFARM_PORT", "many")
    with pytest.raises(UserError, match=r"BENCHFARM_PORT: .*'many'"):
        read_settings()


@pytest.mark.parametrize(("host", "local"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
def test_an_address_for_all_is_not_one_to_join(host: str, local: str) -> None:
    settings = Settings(host=host, port=1)
    assert settings.url == f"http://{local}:1"
    assert host not in settings.public_url
    assert Settings(host="10.0.0.1", port=1).public_url == "http://10.0.0.1:1"
