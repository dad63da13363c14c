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


def _controller(servers: Servers, fault: Fault) -> Process:
    return servers.controllers[fault.draw % len(servers.controllers)]


def _kill_controller(servers: Servers, fault: Fault) -> None:
    kill(_controller(servers, fault), fault.lasts_s)


def _freeze_controller(servers: Servers, fault: Fault) -> None:
    freeze(_controller(servers, fault), fault.lasts_s)


def _freeze_controller_past_lease(servers: Servers, fault: Fault) -> None:
    freeze(_controller(servers, fault), servers.past_lease_s)


def _kill_server(server: Postgres | Redis | None, lasts_s: float) -> None:
    """Kill it; the fault ends when it listens again."""
    assert server is not None
    with server.process.busy:
        server.process.kill()
        time.sleep(lasts_s)
        server.start()


def _kill_redis(servers: Servers, fault: Fault) -> None:
    _kill_server(servers.redis, fault.lasts_s)


def _freeze_redis(servers: Servers, fault: Fault) -> None:
    """It accepts connections and answers nothing."""
    assert servers.redis is not None
    freeze(servers.redis.process, fault.lasts_s)


def _freeze_redis_past_lease(servers: Servers, fault: Fault) -> None:
    assert servers.redis is not None
    freeze(servers.redis.process, servers.past_lease_s)


def _flush_redis(servers: Servers, fault: Fault) -> None:
    with contextlib.suppress(redis.RedisError), servers.queue() as client:
        for _ in range(1 + fault.draw % 10):
            client.flushall()
            time.sleep(0.1)


def _kill_postgres(servers: Servers, fault: Fault) -> None:
    _kill_server(servers.postgres, fault.lasts_s)


def _kill_postgres_backend(servers: Servers, fault: Fault) -> None:
    """PostgreSQL then restarts all its backends."""
    assert servers.postgres is not None
    servers.postgres.process.kill_child(fault.draw)


def _freeze_postgres(servers: Servers, fault: Fault) -> None:
    assert servers.postgres is not None
    freeze(servers.postgres.process, fault.lasts_s, children=True)


def _jump(clock: Clock, fault: Fault) -> None:
    """The clock jumps; in two of three cases it jumps back before the end of the run."""
    clock.jump(JUMPS_S[fault.draw % len(JUMPS_S)])
    if fault.draw % 3:
        time.sleep(fault.lasts_s)
        clock.jump(0)


def _controller_clock_jump(servers: Servers, fault: Fault) -> None:
    with _controller(servers, fault).busy:
        _jump(servers.clocks[fault.draw % len(servers.controllers)], fault)


def _database_clock_jump(servers: Servers, fault: Fault) -> None:
    assert servers.postgres is not None
    assert servers.postgres.clock is not None
    with servers.postgres.process.busy:
        _jump(servers.postgres.clock, fault)


def _cancel_and_resume(servers: Servers, fault: Fault) -> None:
    running = [s.name for s in servers.ask(lambda f: f.sweeps()) if s.state == "running"]
    if running:
        name = random.Random(fault.draw).choice(running)
        servers.ask(lambda farm: farm.cancel(name))
        time.sleep(fault.lasts_s)
        servers.ask(lambda farm: farm.resume(name))


ACTIONS: dict[str, Callable[[Servers, Fault], None]] = {
    "kill_controller": _kill_controller,
    "freeze_controller": _freeze_controller,
    "freeze_controller_past_lease": _freeze_controller_past_lease,
    "kill_redis": _kill_redis,
    "freeze_redis": _freeze_redis,
    "freeze_redis_past_lease": _freeze_redis_past_lease,
    "flush_redis": _flush_redis,
    "kill_postgres": _kill_postgres,
    "kill_postgres_backend": _kill_postgres_backend,
    "freeze_postgres": _freeze_postgres,
    "controller_clock_jump": _controller_clock_jump,
    "database_clock_jump": _database_clock_jump,
    "cancel_and_resume": _cancel_and_resume,
}
