"""``device add`` refuses before it changes a board; two that begin at once exclude each other."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.board import Board
from farm.farm import Farm
from orchestrator.client import Client
from orchestrator.provisioning.boards import RemoteController, provisioning_context
from orchestrator.settings import Settings
from playbooks import playbook
from playbooks.connection import Login
from playbooks.errors import InvalidRequest, LoginRefused
from playbooks.step_runner import StepEvent
from support.cli import Shell

Find = Callable[[str], Board]
Ssh = Callable[[Board], tuple[str, ...]]


def test_a_controllers_name_that_the_board_does_not_know(
    shell: Shell, board: Find, ssh: Ssh
) -> None:
    two = board("two")
    url = "http://farm.invalid:8470"
    ended = shell("device", "add", "nameless", *ssh(two), "--controller-url", url)
    assert ended.returncode == 1
    assert f"bench@{two.address} cannot resolve the controller's name 'farm.invalid'" in (
        ended.stderr
    )
    assert "--controller-url http://ADDRESS:8470" in ended.stderr
    assert "/etc/hosts" in ended.stderr
    assert two.inside("ls /opt; getent passwd benchfarm || true") == ""


def test_a_controller_that_the_board_does_not_reach(
    shell: Shell, farm: Farm, board: Find, ssh: Ssh
) -> None:
    two = board("two")
    with socket.create_server((farm.network.gateway, 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://{farm.network.gateway}:{port}"  # nothing listens there any more
    ended = shell("device", "add", "alone", *ssh(two), "--controller-url", url)
    assert ended.returncode == 1
    assert f"cannot reach the controller at {url}" in ended.stderr
    assert "refused" in ended.stderr
    assert two.inside("ls /opt") == ""


def test_a_name_that_the_controllers_certificate_lacks(
    shell: Shell, farm: Farm, board: Find, ssh: Ssh
) -> None:
    two = board("two")
    two.inside(
        f"cp /etc/hosts /etc/hosts.kept; echo {farm.network.gateway} other.lan >> /etc/hosts"
    )
    port = json.loads((shell.home / "client.json").read_text())["url"].rpartition(":")[2]
    url = f"https://other.lan:{port}"
    ended = shell("device", "add", "named", *ssh(two), "--controller-url", url)
    two.inside("mv /etc/hosts.kept /etc/hosts")
    assert ended.returncode == 1
    assert "its certificate is refused: it is not for other.lan" in ended.stderr
    assert "--san other.lan" in ended.stderr
    assert two.inside("ls /opt") == ""


def test_a_wrong_password_is_refused(
    shell: Shell, board: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = board("two")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with Client.from_home(Settings(home=shell.home)) as client:
        work = provisioning_context(
            shell.home, RemoteController(client), lambda _: None, lambda _: None
        )
        with pytest.raises(LoginRefused, match=r"refuses the login .*and the password: name"):
            playbook.add(work, "locked", Login(f"bench@{two.address}", password="wrong"))
    assert two.inside("ls /opt") == ""


def test_two_controllers_do_not_both_take_a_board(
    shell: Shell, farm: Farm, board: Find, tmp_path: Path
) -> None:
    """Their homes share no lock, so the lock is on the board."""
    two = board("two")
    login = Login(f"bench@{two.address}", str(farm.key))
    refused: list[str] = []

    with (
        Client.from_home(Settings(home=shell.home)) as client,
        socket.create_server((farm.network.gateway, 0)) as listener,
    ):
        url = f"http://{farm.network.gateway}:{listener.getsockname()[1]}"

        def others(event: StepEvent) -> None:
            """Start two more once the first one has marked the board."""
            if (event.step, event.status) != ("user", ""):
                return
            for name, controller in (
                ("other", RemoteController(client)),
                ("twice", RemoteController(client, url)),
            ):
                theirs = provisioning_context(
                    tmp_path / name, controller, lambda _: None, lambda _: None
                )
                with pytest.raises(InvalidRequest) as caught:
                    playbook.add(theirs, name, login, device_class="x86-64-generic")
                refused.append(str(caught.value))
            raise KeyboardInterrupt  # stop the first one, too

        mine = provisioning_context(shell.home, RemoteController(client), others, lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            playbook.add(mine, "twice", login, device_class="x86-64-generic")
        assert "is the board 'twice' already" in refused[0]
        assert "is the board 'twice' of another controller, https://" in refused[1]
        playbook.retire(mine, "twice", login)
    assert two.inside("ls /opt") == ""
