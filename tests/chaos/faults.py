"""What each fault does to a farm of agent processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from . import host_faults, message_faults, server_faults
from .agent_process import CLOCK_FILE
from .schedule import STEPS, Fault
from .server_faults import JUMPS_S, freeze, kill
from .world import PAST_LEASE_S, World

T = TypeVar("T")
LONGEST_AIM_S = 10.0
"""How long a fault of one step of the uplink waits for a request of that step."""


def apply(world: World, fault: Fault) -> None:
    """Inject the fault, wait for its duration, and undo what does not recover by itself."""
    name, _, way = fault.kind.partition("_")
    if name in ("uplink", "broker"):
        proxy = world.uplink if name == "uplink" else world.broker
        with proxy.busy:
            before = proxy.hits
            proxy.set(way)
            time.sleep(fault.lasts_s)
            if way.partition("_")[2] in STEPS:
                _wait(lambda: proxy.hits > before, LONGEST_AIM_S)
            proxy.set("pass")
        return
    if fault.kind in host_faults.ACTIONS:
        host = _pick(world.hosts, fault)
        with host.busy:
            host_faults.ACTIONS[fault.kind](host, fault)
        return
    shared = {**server_faults.ACTIONS, **message_faults.ACTIONS}
    if fault.kind in shared:
        shared[fault.kind](world, fault)
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
    """Past its lease: the controller begins another attempt meanwhile."""
    freeze(_pick(world.boards, fault).process, max(fault.lasts_s, PAST_LEASE_S))


def _end_agent(world: World, fault: Fault) -> None:
    board = _pick(world.boards, fault)
    with board.process.busy:
        code = board.process.end()
        # 1: a delivery hung; SIGTERM: its handler was not installed yet
        assert code in (0, 1, -signal.SIGTERM), f"{board.name} ended with {code}"
        board.process.start()


def _clock_jump(world: World, fault: Fault) -> None:
    """The board's clock jumps, and in two of three cases back; if not, a health check may take the
    board out of work."""
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
    "clock_jump": _clock_jump,
    "disk_full": _disk_full,
}
