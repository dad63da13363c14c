"""One farm of nspawn hosts for all tests here, and a controller that its boards reach."""

from __future__ import annotations

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
from support.servers import redis_program, redis_server

PLANS = (Plan("one"), Plan("two"), Plan("asks", sudo="asks"), Plan("none", sudo="none"))


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
def shell(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """``benchfarm`` with a controller at this machine's address on the farm's bridge."""
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    home = tmp_path_factory.mktemp("farm") / "home"
    keep_wheels(home)
    host = farm.network.gateway
    with (
        redis_server(program, host) as broker,
        cli.running(home, ("--host", host), BENCHFARM_BROKER_URL=broker) as found,
    ):
        yield found


@pytest.fixture
def ssh(farm: Farm) -> Callable[[Board], tuple[str, ...]]:
    """The options with which ``device add`` reaches a board."""

    def words(to: Board) -> tuple[str, ...]:
        return ("--ssh", f"bench@{to.address}", "--identity", str(farm.key))

    return words
