"""Host keys: pinned at first sight, another one refused, and vouched for by fingerprint."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from paramiko import Ed25519Key, PKey, RSAKey, SSHClient

from farm.commands import run
from playbooks.errors import HostKeyChanged
from playbooks.host_keys import PinnedHostKeys

HOST = "[board.example]:2222"


def make_key(folder: Path, name: str) -> PKey:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    return Ed25519Key.from_private_key_file(str(folder / name))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_first_sight_is_told_and_kept(home: Path) -> None:
    key, notes = make_key(home, "key"), list[str]()
    pins = PinnedHostKeys(home / "farm" / "known_hosts", notes.append)
    pins.pin(HOST, key)
    fingerprint = run("ssh-keygen", "-l", "-f", home / "key.pub").split()[1]
    assert notes == [f"pinned the host key of {HOST} at first sight: ssh-ed25519 {fingerprint}"]
    client = SSHClient()
    PinnedHostKeys(home / "farm" / "known_hosts", notes.append).apply_to(client)
    assert client.get_host_keys().check(HOST, key)
    assert not client.get_host_keys().check(HOST, make_key(home, "other"))


def test_another_key_is_refused_unless_it_is_the_one_vouched_for(home: Path) -> None:
    before, now = make_key(home, "before"), make_key(home, "now")
    path = home / "known_hosts"
    PinnedHostKeys(path, lambda _: None).pin(HOST, before)
    refusal = PinnedHostKeys(path, lambda _: None).changed(HOST, now, before)
    assert isinstance(refusal, HostKeyChanged)
    assert before.fingerprint in str(refusal)
    assert f"--host-key {now.fingerprint}" in str(refusal)
    assert (
        PinnedHostKeys(path, lambda _: None, "SHA256:else").changed(HOST, now, before) is not None
    )
    assert PinnedHostKeys(path, lambda _: None, now.fingerprint).changed(HOST, now, before) is None
    client = SSHClient()
    PinnedHostKeys(path, lambda _: None).apply_to(client)
    assert client.get_host_keys().check(HOST, now)


def test_a_key_of_another_kind_is_another_key(home: Path) -> None:
    path, key = home / "known_hosts", make_key(home, "key")
    PinnedHostKeys(path, lambda _: None).pin(HOST, key)
    client = SSHClient()
    PinnedHostKeys(path, lambda _: None).apply_to(client)
    assert (
        HOST in client.get_host_keys()
    )  # so paramiko compares, and does not ask for a first sight
    assert not client.get_host_keys().check(HOST, RSAKey.generate(2048))


def test_the_users_own_known_hosts_count_and_are_not_written(home: Path) -> None:
    before, now = make_key(home, "before"), make_key(home, "now")
    theirs = home / ".ssh" / "known_hosts"
    theirs.write_text(f"{HOST} {before.get_name()} {before.get_base64()}\n")
    text = theirs.read_text()
    pins = PinnedHostKeys(home / "known_hosts", lambda _: None, now.fingerprint)
    refusal = pins.changed(HOST, now, before)
    assert refusal is not None
    assert f"ssh-keygen -R '{HOST}'" in str(refusal)
    assert theirs.read_text() == text


def test_boards_that_are_pinned_side_by_side_are_all_kept(home: Path) -> None:
    key, path = make_key(home, "key"), home / "known_hosts"
    names = [f"board-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: PinnedHostKeys(path, lambda _: None).pin(name, key), names))
    client = SSHClient()
    PinnedHostKeys(path, lambda _: None).apply_to(client)
    assert [n for n in names if client.get_host_keys().check(n, key)] == names
