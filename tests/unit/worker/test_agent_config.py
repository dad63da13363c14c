"""``agent.json``: exact, private, atomic."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from agent.worker.config import (
    HOME_VARIABLE,
    AgentConfig,
    check_device_name,
    default_state_dir,
    load,
    save,
    write_atomically,
)
from agent.worker.errors import BadInput, ConfigExposed, NotJoined


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        "http://farm:8080", "orin-1", "secret", "redis://farm", tmp_path / "state", ca_file="/ca"
    )


def test_it_comes_back_as_it_was_saved(config: AgentConfig) -> None:
    path = save(config)
    assert load(config.state_dir) == config
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.state_dir.stat().st_mode) == 0o700
    assert [p.name for p in config.state_dir.iterdir()] == ["agent.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_others_may_not_read_it(config: AgentConfig, mode: int) -> None:
    path = save(config)
    path.chmod(mode)
    with pytest.raises(ConfigExposed, match="chmod 600"):
        load(config.state_dir)


def test_saving_again_makes_it_private_again(config: AgentConfig) -> None:
    save(config).chmod(0o666)
    save(config)
    assert load(config.state_dir) == config


def test_a_board_that_has_not_joined_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(NotJoined, match="benchfarm-agent join"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object, found list"),
        ('{"device": 1}', "device: expected str, found 1"),
        ('{"colour": "red"}', "unknown key 'colour'; known are controller_url"),
        ('{"device": "a"}', "key 'broker_url' is missing"),
        ('{"blobs_max_mib": true}', "blobs_max_mib: expected int, found True"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, text: str, says: str) -> None:
    write_atomically(tmp_path / "agent.json", text, mode=0o600)
    with pytest.raises(BadInput, match=r"agent\.json") as caught:
        load(tmp_path)
    assert says in str(caught.value)


def test_whole_seconds_are_seconds(config: AgentConfig) -> None:
    path = save(config)
    data = json.loads(path.read_text())
    write_atomically(path, json.dumps({**data, "heartbeat_s": 3}), mode=0o600)
    assert load(config.state_dir).heartbeat_s == 3.0


def test_the_state_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert default_state_dir() == tmp_path
    monkeypatch.delenv(HOME_VARIABLE)
    assert default_state_dir().name == "benchfarm-agent"


@pytest.mark.parametrize("name", ["orin-1", "a", "7", "x" * 63])
def test_device_names(name: str) -> None:
    assert check_device_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a b", "a/b", "x" * 64, "ä", "..", "a\n", "Pi", "a_b", "a.b"]
)
def test_what_is_no_device_name(name: str) -> None:
    with pytest.raises(BadInput):
        check_device_name(name)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def broken(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="no"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
