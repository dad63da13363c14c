"""The nspawn farm itself: its boards are hosts, and it leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.board import Board, BoardDidNotAnswer, Plan
from farm.commands import CommandFailed, run
from farm.farm import Farm, running, ssh_words

Find = Callable[[str], Board]


def login(farm: Farm, board: Board, command: str) -> str:
    return run(*ssh_words(farm, board, [command]))


def test_a_board_is_a_host_of_its_own(farm: Farm, board: Find) -> None:
    one, two = board("one"), board("two")
    assert login(farm, one, "systemctl is-system-running --wait") == "running\n"
    assert login(farm, one, "hostname; sudo -n id -un") == "one\nroot\n"
    assert login(farm, two, "hostname") == "two\n"
    assert login(farm, one, "cat /etc/machine-id") != login(farm, two, "cat /etc/machine-id")
    assert one.fingerprint() != two.fingerprint()
    with pytest.raises(CommandFailed, match="unreachable"):
        login(farm, one, "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 80))'")


def test_its_power_can_be_cut_and_it_reboots_itself(farm: Farm, board: Find) -> None:
    one = board("one")
    login(farm, one, "echo kept > kept; sync")
    started = login(farm, one, "stat -c %Y /proc/1")
    one.cut_power()
    assert not one.is_on()
    one.on()
    one.wait_ssh()
    assert login(farm, one, "cat kept; rm kept") == "kept\n"
    rebooted = login(farm, one, "stat -c %Y /proc/1")
    assert rebooted != started
    one.inside("systemctl reboot || true")
    deadline = time.monotonic() + 60
    while True:
        one.wait_ssh()
        try:
            if login(farm, one, "stat -c %Y /proc/1") != rebooted:
                return
        except CommandFailed:  # it is shutting down
            assert time.monotonic() < deadline


def test_its_cable_can_be_pulled_and_it_can_hang(farm: Farm, board: Find) -> None:
    two = board("two")
    two.cut_network()
    with pytest.raises(OSError, match=r"timed out|No route"):
        socket.create_connection((two.address, 22), timeout=1.0)
    two.mend_network()
    two.wait_ssh()
    two.hang()
    try:
        with pytest.raises(BoardDidNotAnswer):
            two.wait_ssh(2.0)
    finally:
        two.unhang()
    two.wait_ssh()


def test_its_disk_can_be_full(farm: Farm, board: Find) -> None:
    two = board("two")
    two.fill_disk()
    with pytest.raises(CommandFailed, match="No space left"):
        login(farm, two, "head -c 20000000 /dev/zero > much")
    two.empty_disk()
    login(farm, two, "head -c 20000000 /dev/zero > much; rm much")


def test_a_second_farm_has_its_own_network_and_everything_goes(farm: Farm) -> None:
    with running(Plan("brief")) as other:
        assert other.network != farm.network
        assert other.boards["brief"].inside("hostname") == "brief\n"
        names = {other.boards["brief"].group.name, other.network.bridge, f"{other.folder}/"}
        assert {name for name in names if name in traces()} == names
    assert not {name for name in names if name in traces()}
    assert farm.network.bridge in traces()


def traces() -> str:
    """Everything that a farm can leave on this machine: links, namespaces, mounts, folders."""
    words = (["ip", "-br", "link"], ["ip", "netns"], ["losetup", "--list"], ["mount"])
    said = [subprocess.run(w, capture_output=True, text=True).stdout for w in words]
    folders = [*Path("/sys/fs/cgroup").glob("*/bf*"), *Path("/var/tmp/benchfarm-farms").glob("*")]
    return "\n".join([*said, *(f"{path}/" for path in folders)])
