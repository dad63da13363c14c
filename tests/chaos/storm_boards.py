"""Simulated boards that lose power, freeze and have a bad network, but never lose a result.

``python -m chaos.storm_boards`` reads its configuration as a line of JSON on stdin and prints
``ready`` when every board runs. Each further line is a command, answered by a line of JSON: a
fault, ``heal``, ``answer`` (the final one to an attempt's result), ``status`` or ``end``, which
writes every final answer to the configuration's file ``answers``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from agent import __version__
from agent.contract import codec
from agent.contract.api_messages import Heartbeat
from agent.contract.trial import SCHEMA, Failure, TrialResult
from support.simulated_boards import LOST, Board, BoardStatistics, measured

from .schedule import STEPS
from .storm_network import FaultyQueue, FaultyUplink, NetworkFault

PATIENCE_S = 30.0
"""How long a board retries a start before it waits for the next doorbell."""
LIMITS_S = {"heartbeat": 5.0, "start": 30.0, "blob": 120.0, "result": 60.0}
"""The agent's timeouts, by step."""
LONGEST_WAIT_S = 10.0
"""Longest pause between two deliveries; a real agent's is a minute, which would prolong the run."""


class NoAnswer(OSError):
    """The controller's answer is not final: the request is retried."""


class PowerCut(Exception):
    """The board loses its power."""


@dataclass
class Observations:
    """What the boards of one run observed. ``answers``: for each attempt whose result got a final
    answer its HTTP status and whether it was a measurement; ``wrong``: violations, in words."""

    answers: dict[str, tuple[int, bool]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    stats: BoardStatistics = field(default_factory=BoardStatistics)


@dataclass
class StoredResult:
    """A finished result on the board's disk."""

    result: TrialResult
    blob: bytes


class FaultyBoard(Board):
    """A board with an agent's outbox: a result in it survives every fault, and is sent until the
    controller has given a final answer."""

    def __init__(
        self,
        name: str,
        own: dict[str, str],
        uplink: FaultyUplink,
        config: dict[str, Any],
        observed: Observations,
    ) -> None:
        super().__init__(name, own, uplink, config)
        self.observed = observed
        self._queue: FaultyQueue = FaultyQueue(name, own["broker_url"], observed.counts)
        self._outbox: dict[str, StoredResult] = {}
        self._kept: set[str] = set()
        self._begun = ""
        self._filled, self._cut, self._awake = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._awake.set()
        self._pending_faults: dict[str, float] = {}
        self._off_s = 0.0
        self.queue_fault = NetworkFault()

    @property
    def waiting(self) -> int:
        """Results without a final answer."""
        return len(self._outbox)

    # --- faults

    def cut_power(self, lasts_s: float, point: str = "") -> None:
        """Cut the power now, or when the board next reaches ``point`` of an attempt."""
        if point:
            self._pending_faults[point] = lasts_s
        else:
            self._off_s = lasts_s
            self._cut.set()

    def freeze(self, lasts_s: float) -> None:
        """Freeze when the board has next measured: its result comes late."""
        self._pending_faults["freeze"] = lasts_s

    def clear_faults(self) -> None:
        """Cancel the faults that wait for their point."""
        self._pending_faults.clear()

    async def _fault_point(self, point: str) -> None:
        if (
            point == "measured"
            and (lasts_s := self._pending_faults.pop("freeze", None)) is not None
        ):
            self._awake.clear()
            self.observed.counts["boards frozen"] += 1
            await asyncio.sleep(lasts_s)
            self._awake.set()
        if (lasts_s := self._pending_faults.pop(point, None)) is not None:
            self._off_s = lasts_s
            self.observed.counts[f"power cut {point}"] += 1
            raise PowerCut

    # --- the agent

    async def run(self, stats: BoardStatistics, phase: float) -> None:
        """Run until cancelled. ``phase``: see ``keep_beating``."""
        while True:
            cut = asyncio.create_task(self._cut.wait())
            parts = (
                self.keep_beating(stats, phase),
                self.work(stats),
                self._deliver_results(stats),
            )
            tasks = [cut, *map(asyncio.create_task, parts)]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                self._queue.close()
            for error in ended:
                if isinstance(error, Exception) and not isinstance(error, PowerCut):
                    raise error
            if self._cut.is_set():
                self.observed.counts["power cut at any time"] += 1
            await asyncio.sleep(self._off_s)
            phase = 0.0
            self._come_back()

    def _come_back(self) -> None:
        """Restart as the agent does: report an attempt that was begun and not finished."""
        self._cut.clear()
        self._awake.set()
        begun, self._begun, self._attempt = self._begun, "", ""
        if begun and begun not in self._kept:
            died = Failure("measure", "agent_died", "the agent ended while executing it", True)
            self._keep(TrialResult(SCHEMA, begun, "failed", __version__, failure=died), b"")

    def _keep(self, result: TrialResult, blob: bytes) -> None:
        self._kept.add(result.attempt_id)
        self._outbox[result.attempt_id] = StoredResult(result, blob)
        self._filled.set()

    async def beat(self, stats: BoardStatistics) -> None:
        body = codec.dumps(Heartbeat(__version__, self._attempt)).encode()
        with contextlib.suppress(*LOST):
            path = f"/devices/{self._name}/heartbeat"
            self._require(await self._call("PUT", path, stats, body), (200,), "a heartbeat")

    async def work(self, stats: BoardStatistics) -> None:
        while True:
            attempt_id = await self._heard(stats)
            if not attempt_id or attempt_id in self._kept:
                self.observed.counts["doorbells doubled"] += attempt_id is not None
                continue
            if await self._start(attempt_id, stats) != 200:
                continue
            await self._fault_point("started")
            self._begun = self._attempt = attempt_id
            await asyncio.sleep(self._trial_s)
            result, blob = measured(attempt_id)
            await self._fault_point("measured")
            self._keep(result, blob)
            self._begun = self._attempt = ""
            await self._fault_point("kept")

    async def _heard(self, stats: BoardStatistics) -> str | None:
        try:
            if self.queue_fault.kind == "cut" and self.queue_fault.hits(self._name):
                raise ConnectionResetError
            attempt_id = await self._queue.receive()
        except LOST:
            stats.errors += 1
            self._queue.close()
            await asyncio.sleep(1)
            return None
        await self._awake.wait()
        if attempt_id and self.queue_fault.kind == "lost" and self.queue_fault.hits(self._name):
            self.observed.counts["doorbells lost"] += 1
            return None
        return attempt_id

    def cut_queue(self, fault: NetworkFault) -> None:
        self.queue_fault = fault
        if fault.kind == "cut" and fault.hits(self._name):
            self._queue.close()

    async def _start(self, attempt_id: str, stats: BoardStatistics) -> int:
        """The status of the answer; 0 where none came in time."""
        deadline, wait_s = time.monotonic() + PATIENCE_S, 0.25
        while time.monotonic() < deadline:
            try:
                status = await self._call("POST", f"/attempts/{attempt_id}/start", stats)
            except LOST:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            self._require(status, (200, 404, 409), f"the start of {attempt_id}")
            self.observed.counts[f"starts answered {status}"] += 1
            return status
        return 0

    async def _deliver_results(self, stats: BoardStatistics) -> None:
        """Send the outbox, oldest first."""
        wait_s = 1.0
        while True:
            if not self._outbox:
                self._filled.clear()
                await self._filled.wait()
            attempt_id, stored = next(iter(self._outbox.items()))
            try:
                status = await self.deliver(stored.result, stored.blob, stats)
            except LOST:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            wait_s = 1.0
            # the controller must always know an attempt that it let this board start
            self._require(status, (200, 409), f"the result of {attempt_id}")
            ok = stored.result.status == "ok"
            self.observed.answers[attempt_id] = (status, ok)
            stats.trials += ok and status == 200
            stats.refused += status != 200
            del self._outbox[attempt_id]

    async def _call(self, method: str, path: str, stats: BoardStatistics, body: bytes = b"") -> int:
        """One request with the agent's timeout. Raises ``NoAnswer`` or one of ``LOST``."""
        await self._awake.wait()
        step = next(s for s, (verb, part) in STEPS.items() if verb == method and part in path)
        try:
            async with asyncio.timeout(LIMITS_S[step]):
                status = await self._uplink.call(method, path, self._token, body)
        except LOST:
            stats.errors += 1
            raise
        if status >= 500 or status == 429:
            self.observed.counts[f"answered {status}"] += 1
            raise NoAnswer(f"{status}")
        if step == "blob":
            self._require(status, (200, 201), path)
        return status

    def _require(self, status: int, right: tuple[int, ...], what: str) -> None:
        if status not in right:
            self.observed.wrong.append(f"{self._name}: {what} was answered {status}")

    async def deliver(self, result: TrialResult, blob: bytes, stats: BoardStatistics) -> int:
        # a third of the results upload their samples first, as large samples are
        if result.samples is not None and int(result.attempt_id[:8], 16) % 3 == 0:
            await self._call("PUT", f"/blobs/{result.samples.sha256}", stats, blob)
            body = codec.dumps(result).encode()
            return await self._call("PUT", f"/attempts/{result.attempt_id}/result", stats, body)
        return await super().deliver(result, blob, stats)


class Fleet:
    """All boards, and the faults that are injected into them."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.observed = Observations()
        self._config = config
        self._uplink = FaultyUplink(config["url"], int(config["connections"]), self.observed.counts)
        self._past_lease_s = float(config["past_lease_s"])
        self._boards = [
            FaultyBoard(name, own, self._uplink, config, self.observed)
            for name, own in config["boards"].items()
        ]
        self._board_tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Send each board's first heartbeat, then start its tasks."""
        stats, count = self.observed.stats, len(self._boards)
        await asyncio.gather(*(board.beat(stats) for board in self._boards))
        self._board_tasks = [
            asyncio.create_task(board.run(stats, turn / count))
            for turn, board in enumerate(self._boards)
        ]

    def handle(self, command: dict[str, Any]) -> dict[str, Any]:
        """Execute a command; its answer."""
        kind = str(command["kind"])
        for task in self._board_tasks:
            if task.done():
                self.observed.wrong.append(f"a board has ended by itself: {task.exception()!r}")
        if kind == "heal":
            self._heal()
        elif kind == "answer":
            status, _ = self.observed.answers.get(str(command["attempt_id"]), (None, False))
            return {"answer": status}
        elif kind not in ("status", "end"):
            self._fault(
                kind, float(command["lasts_s"]), float(command["share"]), int(command["draw"])
            )
        if kind == "end":
            Path(self._config["answers"]).write_text(json.dumps(self.observed.answers))
        stats = self.observed.stats
        return {
            "waiting": sum(board.waiting for board in self._boards),
            "accepted": stats.trials,
            "superseded": stats.refused,
            "errors": stats.errors,
            "counts": dict(self.observed.counts),
            "wrong": self.observed.wrong[:20],
        }

    def _heal(self) -> None:
        self._uplink.fault = NetworkFault()
        for board in self._boards:
            board.queue_fault = NetworkFault()
            board.clear_faults()

    def _fault(self, kind: str, lasts_s: float, share: float, draw: int) -> None:
        random_ = random.Random(draw)
        targets = random_.sample(self._boards, max(1, round(share * len(self._boards))))
        until = time.monotonic() + lasts_s
        name, _, way = kind.partition("_")
        if name == "uplink":
            what, _, step = way.partition("_")
            self._uplink.fault = NetworkFault(what, step, share, draw, until)
        elif kind in ("queue_cut", "doorbell_lost"):
            for board in self._boards:
                board.cut_queue(NetworkFault(way, "", share, draw, until))
        elif name == "power":
            for board in targets:
                board.cut_power(random_.uniform(0, 2 * lasts_s), way.partition("_")[2])
        elif kind == "freeze_boards":
            for board in targets[: max(1, len(self._boards) // 3)]:
                board.freeze(self._past_lease_s)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def run(config: dict[str, Any]) -> None:
    """Execute commands until ``end``."""
    fleet, loop = Fleet(config), asyncio.get_running_loop()
    await fleet.begin()
    _write("ready")
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        command = json.loads(line or '{"kind": "end"}')
        _write(json.dumps(fleet.handle(command)))
        if command["kind"] == "end":
            return


if __name__ == "__main__":
    uvloop.run(run(json.loads(sys.stdin.readline())))
