"""Ports that are no sshd, or a broken one: one line that says what was found, and no traceback."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playbooks.connection import Login, connected
from playbooks.errors import InvalidRequest, LoginRefused, NoShell, PlaybookError, Unreachable
from playbooks.host_keys import PinnedHostKeys
from support.cli import Shell
from support.own_sshd import make_key, own_sshd

PATIENCE_S = 2


def closes(_: socket.socket) -> None:
    """Closes at once, like sshd beyond MaxStartups."""


def resets(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.2)


def hangs(_: socket.socket) -> None:
    time.sleep(PATIENCE_S + 1.5)


def serves_http(link: socket.socket) -> None:
    link.recv(100)
    link.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: lab\r\n\r\n<html>")


def serves_redis(link: socket.socket) -> None:
    link.recv(100)
    link.sendall(b"-ERR unknown command 'SSH-2.0-paramiko'\r\n")


def serves_telnet(link: socket.socket) -> None:
    link.sendall(b"\xff\xfd\x18\xff\xfd\x20lab login: \r\n")


def never_ends_a_line(link: socket.socket) -> None:
    for _ in range(10_000):
        link.sendall(b"x" * 10_000)


def never_ends_lines(link: socket.socket) -> None:
    for _ in range(100_000):
        link.sendall(b"a notice\r\n" * 100)


def greets_and_hangs(link: socket.socket) -> None:
    link.sendall(b"SSH-2.0-board\r\n")
    hangs(link)


def greets_and_closes(link: socket.socket) -> None:
    link.sendall(b"SSH-2.0-board\r\n")
    link.recv(4000)


def greets_and_babbles(link: socket.socket) -> None:
    link.sendall(b"SSH-2.0-board\r\n" + bytes(range(256)) * 20)
    time.sleep(1)


def is_old(link: socket.socket) -> None:
    link.sendall(b"SSH-1.5-board\r\n")
    time.sleep(1)


SERVERS: dict[Callable[[socket.socket], None], str] = {
    closes: "accepts the connection and closes it without a word: sshd is starting",
    resets: r"closes it without a word|Connection reset by peer",
    hangs: f"accepts the connection and says nothing within {PATIENCE_S} s: the board hangs",
    serves_http: "not as an SSH server: 'HTTP/1.1 400 Bad Request'; which port is sshd's",
    serves_redis: 'not as an SSH server: "-ERR unknown command',
    serves_telnet: "not as an SSH server: .*lab login",
    never_ends_a_line: "not as an SSH server: 'xxxxx",
    never_ends_lines: "not as an SSH server: 'a notice'",
    greets_and_hangs: f"greets as an SSH server and does not go on within {PATIENCE_S} s",
    greets_and_closes: "closes the connection while the encryption is agreed on",
    greets_and_babbles: "is no SSH server that can be talked to: Invalid packet",
    is_old: "is no SSH server that can be talked to: Incompatible version",
}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ~/.ssh/config and no keys of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@contextlib.contextmanager
def serving(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose every connection behaves like that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = listener.accept()
                    with link, contextlib.suppress(OSError):
                        behave(link)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def fails(login: Login, folder: Path, kind: type[PlaybookError]) -> str:
    """Log in, which must fail like that. Returns the message."""
    pins = PinnedHostKeys(folder / "pinned", lambda _: None)
    with pytest.raises(kind) as caught, connected(login, pins) as host:
        host.run("true")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("behave", "why"), SERVERS.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_what_answers_instead_of_sshd_is_said(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    behave: Callable[[socket.socket], None],
    why: str,
) -> None:
    with serving(behave) as port:
        began = time.monotonic()
        text = fails(Login(f"u@127.0.0.1:{port}", connect_s=PATIENCE_S), tmp_path, Unreachable)
        assert time.monotonic() - began < 4 * PATIENCE_S
    assert f"u@127.0.0.1:{port}" in text
    assert re.search(why, text), text
    time.sleep(0.1)  # paramiko's own thread logs a little later
    assert capfd.readouterr().err == ""


def test_a_key_that_is_none_is_the_keys_fault(tmp_path: Path) -> None:
    with own_sshd(tmp_path / "board") as sshd:
        files = {
            "garbage": os.urandom(300),
            "empty": b"",
            "cut": sshd.key.read_bytes()[:120],
            "putty": b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n",
        }
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
            text = fails(Login(sshd.target, str(tmp_path / name)), tmp_path, InvalidRequest)
            assert f"{tmp_path / name}: not a private key" in text
        text = fails(Login(sshd.target, f"{sshd.key}.pub"), tmp_path, InvalidRequest)
        assert "the private key is the file without .pub" in text
        locked = make_key(tmp_path / "locked", "-N", "a pass phrase")
        text = fails(Login(sshd.target, str(locked)), tmp_path, LoginRefused)
        assert f"the private key {locked} is encrypted: add it to ssh-agent" in text
        text = fails(Login(sshd.target, str(make_key(tmp_path / "new"))), tmp_path, LoginRefused)
        assert "refuses the login with" in text
        assert "(it takes publickey)" in text


def agent_with(keys: list[Path], folder: Path) -> subprocess.Popen[bytes]:
    """An ssh-agent that holds ``keys``."""
    path = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.02)
    environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
    subprocess.run(["ssh-add", "-q", *keys], env=environment, check=True)
    return process


def test_an_agent_with_too_many_keys_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_sshd(tmp_path / "board", settings="MaxAuthTries 3") as sshd:
        keys = [make_key(tmp_path / f"key-{n}") for n in range(5)]
        agent = agent_with(keys, tmp_path)
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
            text = fails(Login(sshd.target), tmp_path, LoginRefused)
            assert "closed the connection at key 3" in text
            assert "IdentitiesOnly yes" in text
            (sshd.folder / "authorized").write_text(Path(f"{keys[4]}.pub").read_text())
            (tmp_path / ".ssh").mkdir()
            (tmp_path / ".ssh" / "config").write_text(
                f"Host *\n  IdentityFile {keys[4]}\n  IdentitiesOnly yes\n"
            )
            keys[4].unlink()  # the agent alone has it, and its .pub names it
            keys[4].write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
            pins = PinnedHostKeys(tmp_path / "pinned", lambda _: None)
            with connected(Login(sshd.target), pins) as host:
                assert host.output("echo in") == "in"
        finally:
            agent.terminate()
            agent.wait()
        text = fails(Login(sshd.target), tmp_path, LoginRefused)  # the agent is gone
        assert "keys that were offered: 0" in text


@pytest.mark.parametrize(
    ("settings", "kind", "why"),
    [
        ("PubkeyAuthentication no", LoginRefused, "it takes no method at all"),
        ("AuthenticationMethods publickey,publickey", LoginRefused, "refuses the login"),
        ("DenyUsers *", LoginRefused, "refuses the login"),
        ("HostKeyAlgorithms ssh-rsa", Unreachable, "while the encryption is agreed on"),
        ("MaxSessions 0", NoShell, "does not let a command run"),
    ],
)
def test_settings_of_sshd_that_keep_one_out_are_told(
    tmp_path: Path, settings: str, kind: type[PlaybookError], why: str
) -> None:
    with own_sshd(tmp_path / "board", settings=settings) as sshd:
        assert why in fails(Login(sshd.target, str(sshd.key)), tmp_path, kind)


def test_damaged_files_of_host_keys(tmp_path: Path) -> None:
    with own_sshd(tmp_path / "board") as sshd:
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "known_hosts").write_bytes(
            b"\xff\xfe\n@cert-authority * ssh-ed25519 AAAA\nx ssh-ed25519 ====\nx ssh-new AAAA\n"
        )
        pins = PinnedHostKeys(tmp_path / "pinned", lambda _: None)
        with connected(Login(sshd.target, str(sshd.key)), pins) as host:
            assert host.output("echo in") == "in"
        lines = (tmp_path / "pinned").read_text()
        (tmp_path / "pinned").write_text(f"# mine\n{lines}{lines[:40]}\n")
        text = fails(Login(sshd.target, str(sshd.key)), tmp_path, InvalidRequest)
        assert f"{tmp_path / 'pinned'}:3: not a line of known_hosts" in text


def test_a_user_reads_one_line(farm_shell: Shell) -> None:
    with serving(serves_http) as port:
        ended = farm_shell("device", "logs", "bench", "--ssh", f"u@127.0.0.1:{port}")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == [
        f"error: u@127.0.0.1:{port} answers, but not as an SSH server: 'HTTP/1.1 400 Bad Request'; "
        "which port is sshd's?"
    ]
