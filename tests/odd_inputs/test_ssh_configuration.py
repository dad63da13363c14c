"""``~/.ssh/config`` as OpenSSH reads it, targets in each form; errors name hop, file and line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from playbooks.connection import Login, connected
from playbooks.errors import InvalidRequest, LoginRefused, PlaybookError, Unreachable
from playbooks.host_keys import PinnedHostKeys
from playbooks.ssh_target import SshTarget, parse
from support.cli import Shell
from support.own_sshd import Sshd, own_sshd

RELAY = """\
import os, socket, sys, threading
link = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def back():
    while data := link.recv(65536):
        os.write(1, data)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    link.sendall(data)
"""


@dataclass(frozen=True)
class Lab:
    """Three servers: ``far`` is reached by ``gate``; ``shut`` forwards nothing."""

    home: Path
    gate: Sshd
    far: Sshd
    shut: Sshd

    def configure(self, text: str) -> Path:
        """Write ~/.ssh/config: these lines, then how gate, far and shut are reached."""
        path = self.home / ".ssh" / "config"
        blocks = (
            f'Host {name}\n  HostName 127.0.0.1\n  Port {at.port}\n  IdentityFile "{at.key}"\n'
            for name, at in (("gate", self.gate), ("far", self.far), ("shut", self.shut))
        )
        path.write_text(text + "".join(blocks))
        return path

    def enter(self, target: str, identity: str = "") -> str:
        """Log in; returns the name of the host."""
        pins = PinnedHostKeys(self.home / "pinned", lambda _: None)
        with connected(Login(target, identity, connect_s=5), pins) as host:
            assert host.output("echo in") == "in"
            return host.name

    def fails(self, target: str, kind: type[PlaybookError]) -> str:
        """Log in, which must fail like that. Returns the message."""
        with pytest.raises(kind) as caught:
            self.enter(target)
        return str(caught.value)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Sshd, Sshd]]:
    folder = tmp_path_factory.mktemp("lab")
    with (
        own_sshd(folder / "gate") as gate,
        own_sshd(folder / "far") as far,
        own_sshd(folder / "shut", settings="AllowTcpForwarding no") as shut,
    ):
        yield gate, far, shut


@pytest.fixture
def lab(servers: tuple[Sshd, Sshd, Sshd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Lab(tmp_path, *servers)


def test_what_openssh_follows_is_followed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    user = lab.far.target.partition("@")[0]
    config = lab.configure("")
    included = lab.home / "more"
    included.write_text(config.read_text())
    config.write_text(f"Include {included}\n")
    assert lab.enter("far") == f"{user}@127.0.0.1"
    lab.configure("Host *\n  ProxyJump none   # not today\n  ProxyCommand none\n")
    assert lab.enter("far") == f"{user}@127.0.0.1"
    lab.configure('Match originalhost far exec "test -n %h"\n  ProxyJump gate\n')
    assert lab.enter("far") == f"{user}@127.0.0.1"
    monkeypatch.setenv("LAB", str(lab.far.folder))
    lab.configure(
        f"Host tokens\n  HostName 127.0.0.1\n  Port {lab.far.port}\n  IdentityFile ${{LAB}}/key\n"
    )
    assert lab.enter("tokens") == f"{user}@127.0.0.1"
    lab.configure("Host far\n  HostKeyAlias the-board\n")
    lab.enter("far")
    assert "the-board ssh-ed25519 " in (lab.home / "pinned").read_text()


def test_a_proxy_command_gets_its_tokens_and_its_words_are_told(lab: Lab) -> None:
    relay = lab.home / "relay.py"
    relay.write_text(RELAY)
    lab.configure(f"Host far\n  ProxyCommand {sys.executable} {relay} %h %p\n")
    assert lab.enter("far")
    lab.configure("Host far\n  ProxyCommand no-such-program %h:%p %%\n")
    text = lab.fails("far", Unreachable)
    assert f"its ProxyCommand 'no-such-program 127.0.0.1:{lab.far.port} %' ended with 127" in text
    assert "not found" in text


def test_a_jump_host_that_fails_is_named_and_not_the_target(lab: Lab) -> None:
    lab.configure("Host far\n  ProxyJump nowhere.invalid\n")
    text = lab.fails("far", Unreachable)
    assert "the jump host " in text
    assert "nowhere.invalid:22 on the way to far: nowhere.invalid: no such host" in text
    lab.configure("Host far\n  ProxyJump shut\n")
    text = lab.fails("far", Unreachable)
    assert f"the jump host {lab.shut.target} lets nobody through to it (AllowTcpForwarding" in text
    lab.configure("Host far\n  ProxyJump 127.0.0.1:1\n")
    assert "127.0.0.1:1 on the way to far: " in lab.fails("far", Unreachable)
    lab.configure(f"Host far\n  ProxyJump nobody@127.0.0.1:{lab.gate.port}\n")
    text = lab.fails("far", LoginRefused)
    assert f"the jump host nobody@127.0.0.1:{lab.gate.port} on the way to far: " in text
    assert "name its key by IdentityFile in ~/.ssh/config" in text
    assert "--identity" not in text
    lab.configure("Host gone\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump gate\n")
    assert f"the jump host {lab.gate.target} cannot reach it" in lab.fails("gone", Unreachable)
    lab.configure("Host far\n  ProxyJump gate\nHost gate\n  ProxyJump far\n")
    assert "goes in a circle, or too far: far → gate → far" in lab.fails("far", InvalidRequest)


def test_a_broken_file_is_named_with_its_line(lab: Lab) -> None:
    path = lab.configure("Host far\n  Prot 22\n")
    text = lab.fails("far", InvalidRequest)
    assert f"{path}: line 2: Bad configuration option: prot" in text
    path = lab.configure("Host far\n  Port 70000\n")
    assert f"{path} line 2: Bad port '70000'" in lab.fails("far", InvalidRequest)
    path.write_bytes(b"\xff\xfe\x00")
    assert f"{path} line 1" in lab.fails("far", InvalidRequest)
    path = lab.configure("Host far\n  Port 22\n  PKCS11Provider /usr/lib/token.so\n")
    text = lab.fails("far", InvalidRequest)
    assert f"{path}:3: benchfarm does not follow it: keys of a PKCS#11 token" in text
    path = lab.configure("Host far\n  ProxyJump [::1\n")
    assert f"{path}" in lab.fails("far", InvalidRequest)


def test_without_an_ssh_program_what_is_not_followed_is_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(lab.home))
    lab.configure("Host far\n  ProxyJump gate # by the gate\n")
    assert lab.enter("far")
    path = lab.configure("\n  Include more\n")
    assert f"{path}:2: Include is followed only where an ssh" in lab.fails("far", InvalidRequest)
    path = lab.configure("Match host far\n")
    assert f"{path}:1: Match is followed only where an ssh" in lab.fails("far", InvalidRequest)
    path = lab.configure("Host\nfar\n")
    assert f"{path}: " in lab.fails("far", InvalidRequest)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("pi", SshTarget("pi")),
        ("ubuntu@10.0.0.7:2222", SshTarget("10.0.0.7", "ubuntu", 2222)),
        ("ssh://ubuntu@pi.lab:22/", SshTarget("pi.lab", "ubuntu", 22)),
        ("ssh://[fe80::1%eth0]:2200", SshTarget("fe80::1%eth0", "", 2200)),
        ("u@[2001:db8::7]:22", SshTarget("2001:db8::7", "u", 22)),
        ("u@2001:db8::7", SshTarget("2001:db8::7", "u")),
        ("jane@lab.example@pi", SshTarget("pi", "jane@lab.example")),
        ("LAB\\jane@pi", SshTarget("pi", "LAB\\jane")),
    ],
)
def test_forms_of_a_target(text: str, target: SshTarget) -> None:
    assert parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        *("", "a b", "ssh://", "http://pi", "@pi", "pi:", "pi:0", "pi:70000", "pi:ssh", "[::1"),
        *("[::1]x", "-oProxyCommand=x", "u@-x", "pi;id", "u$(id)@pi", "`id`@pi", "u@p'i"),
    ],
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="SSH target"):
        parse(text)


def test_the_command_line_says_it_in_one_line(farm_shell: Shell, lab: Lab) -> None:
    path = lab.configure("Host far\n  Prot 22\n")
    shell = replace(farm_shell, environment={**farm_shell.environment, "HOME": str(lab.home)})
    ended = shell("device", "logs", "bench", "--ssh", "far")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f"{path}: line 2: Bad configuration option: prot" in ended.stderr
