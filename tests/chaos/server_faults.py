"""What each fault does to the servers of a farm, and a user who cancels and resumes."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable

import redis

from .clocks import Clock
from .processes import Postgres, Process, Redis
from .schedule import Fault
from .servers import Servers

JUMPS_S = (3600, -3600, 86_400 * 400, -86_400 * 400)


def kill(process: Process, lasts_s: float) -> None:
    with process.busy:
        process.kill()
        time.sleep(lasts_s)
        process.start()


def freeze(process: Process, lasts_s: float, *, children: bool = False) -> None:
    """``children``: its descendants, too."""
    send = process.send_all if children else process.send
    with process.busy:
        send(signal.SIGSTOP)
        time.sleep(lasts_s)
        send(signal.SIGCONT)


def _kill_server(server: Postgres | Redis | None, lasts_s: float) -> None:
    """The fault ends when the server listens again."""
    assert server is not None
    with server.process.busy:
        server.process.kill()
        time.sleep(lasts_s)
        server.start()


def _freeze_server(
    server: Postgres | Redis | None, lasts_s: float, *, children: bool = False
) -> None:
    """It accepts connections and answers nothing."""
    assert server is not None
    freeze(server.process, lasts_s, children=children)


def _kill_postgres_backend(servers: Servers, fault: Fault) -> None:
    """PostgreSQL then restarts all its backends."""
    assert servers.postgres is not None
    servers.postgres.process.kill_child(fault.draw)


def _flush_redis(servers: Servers, fault: Fault) -> None:
    with contextlib.suppress(redis.RedisError), servers.queue() as client:
        for _ in range(1 + fault.draw % 10):
            client.flushall()
            time.sleep(0.1)


def _jump(clock: Clock | None, process: Process, fault: Fault) -> None:
    """The clock jumps; in two of three cases it jumps back before the end of the run."""
    assert clock is not None
    with process.busy:
        clock.jump(JUMPS_S[fault.draw % len(JUMPS_S)])
        if fault.draw % 3:
            time.sleep(fault.lasts_s)
            clock.jump(0)


def _controller_clock_jump(servers: Servers, fault: Fault) -> None:
    number = fault.draw % len(servers.controllers)
    _jump(servers.clocks[number], servers.controllers[number], fault)


def _database_clock_jump(servers: Servers, fault: Fault) -> None:
    assert servers.postgres is not None
    _jump(servers.postgres.clock, servers.postgres.process, fault)


def _cancel_and_resume(servers: Servers, fault: Fault) -> None:
    running = [s.name for s in servers.ask(lambda f: f.sweeps()) if s.state == "running"]
    if running:
        name = random.Random(fault.draw).choice(running)
        servers.ask(lambda farm: farm.cancel(name))
        time.sleep(fault.lasts_s)
        servers.ask(lambda farm: farm.resume(name))


ACTIONS: dict[str, Callable[[Servers, Fault], None]] = {
    "kill_controller": lambda s, f: kill(s.controller(f.draw), f.lasts_s),
    "freeze_controller": lambda s, f: freeze(s.controller(f.draw), f.lasts_s),
    "freeze_controller_past_lease": lambda s, f: freeze(s.controller(f.draw), s.past_lease_s),
    "kill_redis": lambda s, f: _kill_server(s.redis, f.lasts_s),
    "freeze_redis": lambda s, f: _freeze_server(s.redis, f.lasts_s),
    "freeze_redis_past_lease": lambda s, _: _freeze_server(s.redis, s.past_lease_s),
    "flush_redis": _flush_redis,
    "kill_postgres": lambda s, f: _kill_server(s.postgres, f.lasts_s),
    "kill_postgres_backend": _kill_postgres_backend,
    "freeze_postgres": lambda s, f: _freeze_server(s.postgres, f.lasts_s, children=True),
    "controller_clock_jump": _controller_clock_jump,
    "database_clock_jump": _database_clock_jump,
    "cancel_and_resume": _cancel_and_resume,
}
