"""One farm of nspawn hosts for all tests here, and a controller that its boards reach."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm import needs
from farm.board import Board, Plan
from farm.cache import keep_wheels
from farm.farm import Farm, running
from support import cli
from support.cli import Shell
from support.need import need
from support.servers import free_port, redis_program, redis_server

PLANS = (*map(Plan, ("one", "two", "kept")), Plan("asks", sudo="asks"), Plan("none", sudo="none"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def farm() -> Iterator[Farm]:
    why = needs.missing()
    need("nspawn", not why, why)
    with running(*PLANS) as made:
        yield made


@pytest.fixture
def board(farm: Farm) -> Callable[[str], Board]:
    """Get a board by name, switched on and connected."""

    def find(name: str) -> Board:
        found = farm.boards[name]
        found.mend_network()
        found.empty_disk()
        found.on()
        found.wait_ssh()
        return found

    return find


@pytest.fixture(scope="session")
def ca(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private authority, and certificates for the address that boards reach, made by commands."""
    home = tmp_path_factory.mktemp("authority")
    shell = cli.shell_in(home)
    shell.fine("ca", "init", "--folder", "ca")
    for name in ("controller", "redis"):
        shell.fine("ca", "issue", name, "--folder", "ca", "--san", farm.network.gateway)
    return home / "ca"


@pytest.fixture(scope="session")
def shell(farm: Farm, ca: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """``benchfarm`` with a controller at this machine's address on the farm's bridge: HTTPS, and a
    Redis with TLS alone whose default user is closed. (A fleet's controller has neither.)"""
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    home, host, port = tmp_path_factory.mktemp("farm") / "home", farm.network.gateway, free_port()
    keep_wheels(home)
    place, users = f"rediss://{host}:{port}/0", home / "users.acl"
    made = cli.shell_in(home)("broker", "acl", "--broker", place, "--output", users)
    broker = re.search(r"BENCHFARM_BROKER_URL=(\S+)", made.stderr)
    assert broker is not None, made.stderr
    options = ["--tls-port", str(port), "--port", "0", "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", f"{ca}/redis.pem", "--tls-key-file", f"{ca}/redis.key"]
    options += ["--tls-ca-cert-file", f"{ca}/ca.pem", "--aclfile", str(users)]
    with (
        redis_server(program, host, port, options),
        cli.running(
            home,
            ("--host", host),
            BENCHFARM_BROKER_URL=broker[1],
            BENCHFARM_TLS_CERTIFICATE=f"{ca}/controller.pem",
            BENCHFARM_TLS_KEY=f"{ca}/controller.key",
            BENCHFARM_CA_FILE=f"{ca}/ca.pem",
        ) as found,
    ):
        yield found


@pytest.fixture(scope="session")
def joined(shell: Shell, farm: Farm) -> Iterator[Board]:
    """The board ``kept``, registered under its name until the last test; enabled and online."""
    kept = farm.boards["kept"]
    ssh = ("--ssh", f"bench@{kept.address}", "--identity", str(farm.key))
    shell.fine("device", "add", "kept", *ssh, "--class", "x86-64-generic")
    yield kept
    shell.fine("device", "retire", "kept")
    assert kept.inside("ls /opt; getent passwd benchfarm || true") == ""


@pytest.fixture
def ssh(farm: Farm) -> Callable[[Board], tuple[str, ...]]:
    """The options with which ``device add`` reaches a board."""

    def words(to: Board) -> tuple[str, ...]:
        return ("--ssh", f"bench@{to.address}", "--identity", str(farm.key))

    return words
