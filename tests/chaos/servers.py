"""The servers of the farm under test: controllers, PostgreSQL and Redis."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import redis
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from agent import broker
from orchestrator.client import Client
from orchestrator.domain.errors import FarmError
from orchestrator.store.database import Database
from orchestrator.store.tables import Attempt, Device
from support.servers import postgres_programs, redis_program

from .clocks import Clock
from .processes import PATIENCE_S, Postgres, Process, Redis, wait_listening

T = TypeVar("T")


def server_programs() -> tuple[Path, str]:
    """The folder of PostgreSQL's programs, and ``redis-server``. Raises ``AssertionError``."""
    programs, redis_server = postgres_programs(), redis_program()
    assert programs is not None, "there is no initdb"
    assert redis_server is not None, "there is no redis-server"
    return programs, redis_server


class Servers:
    """Controllers on one database and one broker, and what a fault may do to them.

    ``postgres`` and ``redis`` are ``None`` on the embedded farm. ``past_lease_s``: a freeze of that
    length outlasts every lease. ``device_tokens``: of the boards that message faults may use, by
    name; ``device_names``: all boards."""

    def __init__(
        self,
        host: str,
        postgres: Postgres | None,
        redis_: Redis | None,
        controllers: Sequence[tuple[Process, int]],
        home: Path,
        past_lease_s: float,
    ) -> None:
        """``controllers``: each with its port; ``home``: the first one's."""
        self.host, self.postgres, self.redis = host, postgres, redis_
        self.controllers = [process for process, _ in controllers]
        self.ports = [port for _, port in controllers]
        self.home, self.past_lease_s = home, past_lease_s
        socket = home / "redis.sock"
        self._embedded_socket = str(socket)
        self.broker_url = redis_.url if redis_ else f"redis+socket://{socket}?virtual_host=0"
        self.database_url = postgres.url if postgres else f"sqlite:///{home}/benchfarm.sqlite3"
        self.database = Database(self.database_url)
        self.clocks: list[Clock] = []
        self.device_names: list[str] = []
        self.device_tokens: dict[str, str] = {}
        self.deepest_queue = 0
        self.token = ""

    def controller(self, draw: int) -> Process:
        """The controller that a random number selects."""
        return self.controllers[draw % len(self.controllers)]

    def start(self, stack: contextlib.ExitStack) -> None:
        """Start everything and wait until it listens; ``stack`` ends it."""
        stack.callback(self.database.close)
        for server in (self.postgres, self.redis):
            if server is not None:
                stack.callback(server.close)
                server.start()
        for controller in self.controllers:
            stack.callback(controller.kill)
            controller.start()  # both at once: they take turns at migrating the database
        self._wait_listening()

    def _wait_listening(self) -> None:
        for controller, port in zip(self.controllers, self.ports, strict=True):
            wait_listening(controller, port, self.host)

    def heal_servers(self) -> None:
        """Undo every fault of the servers."""
        for clock in [*self.clocks, *([self.postgres.clock] if self.postgres else [])]:
            if clock is not None:
                clock.jump(0)
        for server in (self.postgres, self.redis):
            if server is not None:
                server.process.resume()
                server.start()
        for controller in self.controllers:
            controller.resume()
            controller.start()
        self._wait_listening()

    def keep_up(self) -> None:
        """Restart controllers that ended by themselves, as a service manager does: a controller
        that starts while the database is away ends at once."""
        for controller in self.controllers:
            controller.keep_up()

    # --- requests

    def ask(self, what: Callable[[Client], T]) -> T:
        """Send a user's request to each controller in turn until one answers."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for port in self.ports:
                try:
                    with Client(f"http://{self.host}:{port}", self.token) as client:
                        return what(client)
                except FarmError:
                    if time.monotonic() > deadline:
                        raise
            time.sleep(0.2)

    @contextlib.contextmanager
    def rows(self) -> Iterator[Session]:
        with self.database.read_session() as session:
            yield session

    def recent_attempts(self, limit: int = 500) -> list[tuple[Attempt, str]]:
        """The newest attempts of boards in ``device_tokens``, newest first, each with its board's
        name; none while the database is away."""
        query = select(Attempt, Device.name).join(Device, Attempt.device_id == Device.id)
        query = query.order_by(Attempt.dispatched_at.desc()).limit(limit)
        with contextlib.suppress(SQLAlchemyError), self.rows() as session:
            found = [(row.Attempt, row.name) for row in session.execute(query)]
            return [(attempt, name) for attempt, name in found if name in self.device_tokens]
        return []

    def knows(self, attempt_id: str) -> bool:
        with self.rows() as session:
            return session.get(Attempt, attempt_id) is not None

    def first_answer(self, _attempt_id: str) -> int | None:
        """The status with which a result was answered at first, where that was recorded."""
        return None

    def queue(self) -> redis.Redis:
        if self.redis is None:
            return redis.Redis(unix_socket_path=self._embedded_socket, socket_timeout=10)
        return redis.Redis(self.host, self.redis.port, socket_timeout=10)

    def look_at_queues(self) -> int:
        """The length of the longest queue now, which is noted; -1 where Redis does not answer."""
        with contextlib.suppress(redis.RedisError), self.queue() as client:
            pipeline = client.pipeline(transaction=False)
            for name in self.device_names:
                pipeline.llen(broker.queue_name(name))
            length = max(map(int, pipeline.execute()), default=0)
            self.deepest_queue = max(self.deepest_queue, length)
            return length
        return -1

    def wait_for(
        self, what: Callable[[], bool], meaning: str, within_s: float = PATIENCE_S
    ) -> None:
        deadline = time.monotonic() + within_s
        while not what():
            assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain for {meaning}"
            time.sleep(0.2)
