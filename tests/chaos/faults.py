"""What each fault does to the farm, and how it passes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import httpx
import redis
from sqlalchemy.exc import SQLAlchemyError

from agent import broker
from agent.contract import codec
from agent.contract.trial import SCHEMA, Failure, TrialResult
from agent.worker import config
from orchestrator.store.tables import Attempt

from . import host_faults, server_faults
from .agent_process import CLOCK_FILE
from .schedule import STEPS, Fault
from .server_faults import JUMPS_S, freeze, kill
from .world import PAST_LEASE_S, Board, World

T = TypeVar("T")
LONGEST_AIM_S = 10.0
"""How long a fault that aims at one step of the uplink waits for a request of it."""
POISON = (b"1", b"[]", b"null", b"{}", b"\xff\xfe", b'{"body": "MQ=="}')


def apply(world: World, fault: Fault) -> None:
    """Do it, let it last, undo what does not mend itself."""
    name, _, way = fault.kind.partition("_")
    if name in ("uplink", "broker"):
        proxy = world.uplink if name == "uplink" else world.broker
        with proxy.busy:
            before = proxy.met
            proxy.set(way)
            time.sleep(fault.lasts_s)
            if way.partition("_")[2] in STEPS:  # until it has met one
                _wait(lambda: proxy.met > before, LONGEST_AIM_S)
            proxy.set("pass")
        return
    if fault.kind in host_faults.ACTIONS:
        host = _pick(world.hosts, fault)
        with host.busy:
            host_faults.ACTIONS[fault.kind](host, fault)
        return
    if fault.kind in server_faults.ACTIONS:
        server_faults.ACTIONS[fault.kind](world, fault)
        return
    _ACTIONS[fault.kind](world, fault)


def _wait(what: Callable[[], bool], longest_s: float) -> None:
    deadline = time.monotonic() + longest_s
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)


def _pick(among: Sequence[T], fault: Fault) -> T:
    return among[fault.draw % len(among)]


def _kill_agent(world: World, fault: Fault) -> None:
    kill(_pick(world.boards, fault).process, fault.lasts_s)


def _kill_child(world: World, fault: Fault) -> None:
    for board in world.boards[fault.draw % 2 :: 2]:
        for pid in board.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _freeze_agent(world: World, fault: Fault) -> None:
    """Past its lease: the controller gives its trial to another attempt meanwhile."""
    freeze(_pick(world.boards, fault).process, max(fault.lasts_s, PAST_LEASE_S))


def _end_agent(world: World, fault: Fault) -> None:
    board = _pick(world.boards, fault)
    with board.process.busy:
        code = board.process.end()
        # 1: a delivery hung; by the signal itself: it had hardly been started
        assert code in (0, 1, -signal.SIGTERM), f"{board.name} ended with {code}"
        board.process.start()


# --- messages that are doubled, late, in another order, or a stranger's


def _attempts(world: World) -> list[Attempt]:
    """Of the boards that are processes here."""
    with contextlib.suppress(SQLAlchemyError):
        mine = {_number(world, board) for board in world.boards}
        return [a for a in world.known_attempts() if a.device_id in mine]
    return []


def _ring(world: World, device: str, attempt_id: str) -> None:
    app = broker.make_app(world.broker_url, "chaos")
    with contextlib.suppress(broker.BrokerDown):
        broker.ring(app, device, attempt_id)
    app.close()


def _ring_again(world: World, fault: Fault) -> None:
    """Doorbells from before, newest first, some twice."""
    for attempt in _attempts(world)[: -4 - fault.draw % 8 : -1]:
        board = next(b for b in world.boards if _number(world, b) == attempt.device_id)
        for _ in range(1 + fault.draw % 2):
            _ring(world, board.name, attempt.id)


def _number(world: World, board: Board) -> int:
    """Its key in the database."""
    return world.device_ids[board.name]


def _ring_strangers(world: World, fault: Fault) -> None:
    """Attempts of other devices, and ones that never were."""
    board = _pick(world.boards, fault)
    for attempt in _attempts(world)[-4:]:
        _ring(world, board.name, attempt.id)
    _ring(world, board.name, uuid.UUID(int=fault.draw).hex)


def _poison(world: World, fault: Fault) -> None:
    board = _pick(world.boards, fault)
    with contextlib.suppress(redis.RedisError), world.queue() as client:
        for message in POISON:
            client.lpush(broker.queue_name(board.name), message)


def _give(world: World, board: Board, attempt_id: str, result: TrialResult) -> int:
    """Hand a result in as this board; the status of the answer, 0 where none came."""
    token = config.load(board.state).token
    url = f"http://{world.host}:{world.ports[0]}/api/v1/attempts/{attempt_id}/result"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        return httpx.put(url, content=codec.dumps(result), headers=headers, timeout=20).status_code
    except httpx.TransportError:
        return 0


def _give_again(world: World, fault: Fault) -> None:
    """Results from before, once more; the answer must be what it was."""
    given = [a for a in _attempts(world) if a.result is not None]
    for attempt in given[fault.draw % 5 :: 5][-10:]:
        board = next(b for b in world.boards if _number(world, b) == attempt.device_id)
        result = codec.from_plain(TrialResult, attempt.result)
        status = _give(world, board, attempt.id, result)
        gone = status == 404 and attempt.id not in {a.id for a in _attempts(world)}  # an old check
        right = status in (0, 200, 409, 503) or gone
        assert right, f"a result given again was answered {status}"


def _forge(world: World, fault: Fault) -> None:
    """A board that hands in results for another's attempts, and for its own ones that are over."""
    lie = Failure("measure", "forged", "this never happened")
    for attempt in _attempts(world)[-6:]:
        result = TrialResult(SCHEMA, attempt.id, "failed", "forged", failure=lie)
        others = [b for b in world.boards if _number(world, b) != attempt.device_id]
        status = _give(world, _pick(others, fault), attempt.id, result)
        assert status in (0, 404, 503), f"a forged result was answered {status}"
    over = [a for a in _attempts(world) if a.accepted][-3:]
    for attempt in over:
        board = next(b for b in world.boards if _number(world, b) == attempt.device_id)
        _give(world, board, attempt.id, replace(_ended(attempt), failure=lie, status="failed",
                                                samples=None))  # fmt: skip


def _ended(attempt: Attempt) -> TrialResult:
    return codec.from_plain(TrialResult, attempt.result)


# --- the board's own troubles, and people


def _clock_jump(world: World, fault: Fault) -> None:
    """Away, and two times of three back again; else a health check may take the board out."""
    board = _pick(world.boards, fault)
    offset = board.state / CLOCK_FILE
    with board.process.busy:
        offset.write_text(str(_pick(JUMPS_S, fault)))
        if fault.draw % 3:
            time.sleep(fault.lasts_s)
            offset.unlink()


def _disk_full(world: World, fault: Fault) -> None:
    for board in (b for b in world.boards if b.small_disk):
        with board.process.busy:
            filler = board.state / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                while True:
                    file.write(b"x")
            time.sleep(fault.lasts_s)
            filler.unlink()


_ACTIONS: dict[str, Callable[[World, Fault], None]] = {
    "kill_agent": _kill_agent,
    "kill_child": _kill_child,
    "freeze_agent": _freeze_agent,
    "end_agent": _end_agent,
    "ring_again": _ring_again,
    "ring_strangers": _ring_strangers,
    "poison": _poison,
    "give_again": _give_again,
    "forge": _forge,
    "clock_jump": _clock_jump,
    "disk_full": _disk_full,
}
