"""Played boards that lose power, freeze, and have a bad network, but never a finished result.

``python -m benchmarks.storm_boards`` reads its orders as a line of JSON on stdin and says ``ready``
as the boards of ``scale_boards`` do. After that each line is a command, answered by one of JSON:
a fault, ``heal``, ``status``, or ``end``, before which every answer that the controller gave for
good is written to the file ``answers`` of the orders.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from agent import __version__
from agent.contract import codec
from agent.contract.api_messages import Heartbeat
from agent.contract.trial import SCHEMA, Failure, TrialResult
from benchmarks.scale_boards import LOST, Board, Seen, measured
from benchmarks.storm_network import Doorbells, StormQueue, StormUplink, Weather, doorbell
from benchmarks.storm_schedule import STEPS

PATIENCE_S = 30.0
"""How long a board asks to start, before it waits for the next doorbell."""
LIMITS_S = {"heartbeat": 5.0, "start": 30.0, "blob": 120.0, "result": 60.0}
"""How long the agent waits for each answer."""
LONGEST_WAIT_S = 10.0
"""Between two deliveries; a real agent's is a minute, and the run would be that much longer."""
REMEMBERED = 2000
"""Answered results that may be handed in again, of all boards together."""
POISON = (b"1", b"[]", b"null", b"{}", b"\xff\xfe", b'{"body": "MQ=="}')
LIE = Failure("measure", "forged", "this never happened")


class NoAnswer(OSError):
    """The controller has not answered for good: it is asked again."""


class PowerCut(Exception):
    """The board goes dark."""


@dataclass
class Log:
    """What the boards of one run saw. ``answers``: of each attempt whose result was answered for
    good its status and whether it was a measurement; ``wrong``: what should not have been."""

    answers: dict[str, tuple[int, bool]] = field(default_factory=dict)
    lately: deque[tuple[StormBoard, TrialResult, bytes]] = field(
        default_factory=lambda: deque(maxlen=REMEMBERED)
    )
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)


@dataclass
class Parcel:
    """A finished result on the board's disk."""

    result: TrialResult
    blob: bytes


class StormBoard(Board):
    """A board with an agent's outbox: what is in it survives everything, and is handed in until
    the controller has answered for good."""

    def __init__(
        self, name: str, own: dict[str, str], uplink: StormUplink, orders: dict[str, Any], log: Log
    ) -> None:
        super().__init__(name, own, uplink, orders)
        self.name, self.log, self.token = name, log, own["token"]
        self._queue: StormQueue = StormQueue(name, own["broker_url"], log.counts)
        self._outbox: dict[str, Parcel] = {}
        self._kept: set[str] = set()
        self._begun = ""
        self._filled, self._cut, self._awake = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._awake.set()
        self._dooms: dict[str, float] = {}
        self._dark_s = 0.0
        self.queue_weather = Weather()

    @property
    def attempt(self) -> str:
        return self._attempt

    @property
    def waiting(self) -> int:
        """Results that were not answered for good yet."""
        return len(self._outbox)

    # --- what is done to it

    def cut_power(self, lasts_s: float, doom: str = "") -> None:
        """Now, or as it next comes to where ``doom`` says."""
        if doom:
            self._dooms[doom] = lasts_s
        else:
            self._dark_s = lasts_s
            self._cut.set()

    def freeze(self, lasts_s: float) -> None:
        """As it next has measured: its result comes late."""
        self._dooms["freeze"] = lasts_s

    def spare(self) -> None:
        """Whatever was to come to it comes not."""
        self._dooms.clear()

    async def _at(self, point: str) -> None:
        if point == "measured" and (lasts_s := self._dooms.pop("freeze", None)) is not None:
            self._awake.clear()
            self.log.counts["boards frozen"] += 1
            await asyncio.sleep(lasts_s)
            self._awake.set()
        if (lasts_s := self._dooms.pop(point, None)) is not None:
            self._dark_s = lasts_s
            self.log.counts[f"power cut {point}"] += 1
            raise PowerCut

    # --- its life

    async def live(self, seen: Seen, phase: float) -> None:
        """Until cancelled. ``phase`` as for ``keep_beating``."""
        while True:
            cut = asyncio.create_task(self._cut.wait())
            parts = (self.keep_beating(seen, phase), self.work(seen), self._carry(seen))
            tasks = [cut, *map(asyncio.create_task, parts)]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                self._queue.hang_up()
            for error in ended:
                if isinstance(error, Exception) and not isinstance(error, PowerCut):
                    raise error
            if self._cut.is_set():
                self.log.counts["power cut at any time"] += 1
            await asyncio.sleep(self._dark_s)
            phase = 0.0
            self._come_back()

    def _come_back(self) -> None:
        """As an agent starts: an attempt that it had begun and not finished is reported."""
        self._cut.clear()
        self._awake.set()
        begun, self._begun, self._attempt = self._begun, "", ""
        if begun and begun not in self._kept:
            died = Failure("measure", "agent_died", "the agent ended while executing it", True)
            self._keep(TrialResult(SCHEMA, begun, "failed", __version__, failure=died), b"")

    def _keep(self, result: TrialResult, blob: bytes) -> None:
        self._kept.add(result.attempt_id)
        self._outbox[result.attempt_id] = Parcel(result, blob)
        self._filled.set()

    async def beat(self, seen: Seen) -> None:
        body = codec.dumps(Heartbeat(__version__, self._attempt)).encode()
        with contextlib.suppress(*LOST):
            path = f"/devices/{self._name}/heartbeat"
            self._require(await self._call("PUT", path, seen, body), (200,), "a heartbeat")

    async def work(self, seen: Seen) -> None:
        ended = 0.0
        while True:
            attempt_id = await self._heard(seen)
            if not attempt_id or attempt_id in self._kept:
                self.log.counts["doorbells doubled"] += attempt_id is not None
                continue
            if await self._start(attempt_id, seen) != 200:
                continue
            if ended:
                seen.idle_s.append(time.monotonic() - ended)
            await self._at("started")
            self._begun = self._attempt = attempt_id
            await asyncio.sleep(self._trial_s)
            result, blob = measured(attempt_id)
            ended = time.monotonic()
            await self._at("measured")
            self._keep(result, blob)
            self._begun = self._attempt = ""
            await self._at("kept")

    async def _heard(self, seen: Seen) -> str | None:
        try:
            if self.queue_weather.kind == "cut" and self.queue_weather.meets(self._name):
                raise ConnectionResetError
            attempt_id = await self._queue.heard()
        except LOST:
            seen.errors += 1
            self._queue.hang_up()
            await asyncio.sleep(1)
            return None
        await self._awake.wait()
        if (
            attempt_id
            and self.queue_weather.kind == "lost"
            and self.queue_weather.meets(self._name)
        ):
            self.log.counts["doorbells lost"] += 1
            return None
        return attempt_id

    def cut_queue(self, weather: Weather) -> None:
        self.queue_weather = weather
        if weather.kind == "cut" and weather.meets(self._name):
            self._queue.hang_up()

    async def _start(self, attempt_id: str, seen: Seen) -> int:
        """The status of the answer; 0 where none came in time."""
        deadline, wait_s = time.monotonic() + PATIENCE_S, 0.25
        while time.monotonic() < deadline:
            try:
                status = await self._call("POST", f"/attempts/{attempt_id}/start", seen)
            except LOST:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            self._require(status, (200, 404, 409), f"the start of {attempt_id}")
            self.log.counts[f"starts answered {status}"] += 1
            return status
        return 0

    async def _carry(self, seen: Seen) -> None:
        """The agent's courier."""
        wait_s = 1.0
        while True:
            if not self._outbox:
                self._filled.clear()
                await self._filled.wait()
            attempt_id, parcel = next(iter(self._outbox.items()))
            try:
                status = await self.hand_in(parcel.result, parcel.blob, seen)
            except LOST:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            wait_s = 1.0
            # of an attempt that it was told to start the controller must know for ever
            self._require(status, (200, 409), f"the result of {attempt_id}")
            ok = parcel.result.status == "ok"
            self.log.answers[attempt_id] = (status, ok)
            self.log.lately.append((self, parcel.result, parcel.blob))
            seen.trials += ok and status == 200
            seen.refused += status != 200
            del self._outbox[attempt_id]

    async def _call(self, method: str, path: str, seen: Seen, body: bytes = b"") -> int:
        """Asked once, as long as the agent waits. Raises ``NoAnswer`` or one of ``LOST``."""
        await self._awake.wait()
        step = next(s for s, (verb, part) in STEPS.items() if verb == method and part in path)
        try:
            async with asyncio.timeout(LIMITS_S[step]):
                status = await self._uplink.call(method, path, self._token, body)
        except LOST:
            seen.errors += 1
            raise
        if status >= 500 or status == 429:
            self.log.counts[f"answered {status}"] += 1
            raise NoAnswer(f"{status}")
        if step == "blob":
            self._require(status, (200, 201), path)
        return status

    def _require(self, status: int, right: tuple[int, ...], what: str) -> None:
        if status not in right:
            self.log.wrong.append(f"{self._name}: {what} was answered {status}")

    # --- what a board that is not honest does

    async def give_again(self, result: TrialResult, blob: bytes) -> None:
        """A result that was answered for good is answered the same for ever."""
        with contextlib.suppress(*LOST):
            status = await self.hand_in(result, blob, Seen())
            before, _ = self.log.answers[result.attempt_id]
            self._require(status, (before,), f"{result.attempt_id}, once {before}, given again,")
            self.log.counts["results given again"] += 1

    async def hand_in(self, result: TrialResult, blob: bytes, seen: Seen) -> int:
        # as large samples are: uploaded before the result
        if result.samples is not None and int(result.attempt_id[:8], 16) % 3 == 0:
            await self._call("PUT", f"/blobs/{result.samples.sha256}", seen, blob)
            body = codec.dumps(result).encode()
            return await self._call("PUT", f"/attempts/{result.attempt_id}/result", seen, body)
        return await super().hand_in(result, blob, seen)

    async def forge(self, attempt_id: str, *, own: bool) -> None:
        """Lie about another's attempt, or about one of its own that is over."""
        lie = TrialResult(SCHEMA, attempt_id, "failed", "forged", failure=LIE)
        right = (self.log.answers[attempt_id][0],) if own else (404,)
        with contextlib.suppress(*LOST):
            status = await self.hand_in(lie, b"", Seen())
            self._require(status, right, f"a forged result of {attempt_id}")
            self.log.counts["results forged"] += 1


class Storm:
    """All boards, and what is done to them."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.log = Log()
        self._orders = orders
        self._uplink = StormUplink(orders["url"], int(orders["connections"]), self.log.counts)
        self._doorbells = Doorbells(orders["broker_url"])
        self._past_lease_s = float(orders["past_lease_s"])
        self._boards = [
            StormBoard(name, own, self._uplink, orders, self.log)
            for name, own in orders["boards"].items()
        ]
        self._lives: list[asyncio.Task[None]] = []
        self._acts: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Every board has beaten, and listens."""
        seen, count = self.log.seen, len(self._boards)
        await asyncio.gather(*(board.beat(seen) for board in self._boards))
        self._lives = [
            asyncio.create_task(board.live(seen, turn / count))
            for turn, board in enumerate(self._boards)
        ]

    def told(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what a line says; the answer."""
        kind = str(order["kind"])
        for life in self._lives:
            if life.done():
                self.log.wrong.append(f"a board has ended by itself: {life.exception()!r}")
        if kind == "heal":
            self._heal()
        elif kind not in ("status", "end"):
            self._fault(kind, float(order["lasts_s"]), float(order["share"]), int(order["draw"]))
        if kind == "end":
            Path(self._orders["answers"]).write_text(json.dumps(self.log.answers))
        seen = self.log.seen
        return {
            "waiting": sum(board.waiting for board in self._boards),
            "accepted": seen.trials,
            "superseded": seen.refused,
            "errors": seen.errors,
            "idle_s": sum(seen.idle_s) / max(1, len(seen.idle_s)),
            "counts": dict(self.log.counts),
            "wrong": self.log.wrong[:20],
        }

    def _heal(self) -> None:
        self._uplink.weather = Weather()
        for board in self._boards:
            board.queue_weather = Weather()
            board.spare()

    def _fault(self, kind: str, lasts_s: float, share: float, draw: int) -> None:
        random_ = random.Random(draw)
        met = random_.sample(self._boards, max(1, round(share * len(self._boards))))
        now = Weather(share=share, salt=draw, until=time.monotonic() + lasts_s)
        name, _, way = kind.partition("_")
        if name == "uplink":
            what, _, step = way.partition("_")
            self._uplink.weather = Weather(what, step, now.share, now.salt, now.until)
        elif kind in ("queue_cut", "doorbell_lost"):
            for board in self._boards:
                board.cut_queue(Weather(way, "", now.share, now.salt, now.until))
        elif name == "power":
            for board in met:
                board.cut_power(random_.uniform(0, 2 * lasts_s), way.partition("_")[2])
        elif kind == "freeze_boards":
            for board in met[: max(1, len(self._boards) // 3)]:
                board.freeze(self._past_lease_s)
        else:
            self._act(getattr(self, f"_{kind}")(met, random_))

    def _act(self, what: Any) -> None:
        task = asyncio.create_task(what)
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)

    async def _ring_again(self, met: list[StormBoard], random_: random.Random) -> None:
        """Doorbells from before, newest first, some twice; and of the attempt under way."""
        pairs = [(b.name, doorbell(b.attempt)) for b in met if b.attempt]
        for board, result, _ in reversed([p for p in self.log.lately if p[0] in set(met)][-500:]):
            pairs += [(board.name, doorbell(result.attempt_id))] * random_.choice((1, 2))
        await self._doorbells.push(pairs)

    async def _ring_strangers(self, met: list[StormBoard], random_: random.Random) -> None:
        """Attempts of other boards, and ones that never were."""
        pairs = [(b.name, doorbell(uuid.UUID(int=random_.getrandbits(128)).hex)) for b in met]
        others = [*self.log.lately][-len(met) :]
        pairs += [
            (b.name, doorbell(r.attempt_id)) for b, (_, r, _) in zip(met, others, strict=False)
        ]
        under_way = [board for board in self._boards if board.attempt]
        pairs += [(b.name, doorbell(o.attempt)) for b, o in zip(met, under_way, strict=False)]
        await self._doorbells.push(pairs)

    async def _poison(self, met: list[StormBoard], random_: random.Random) -> None:
        await self._doorbells.push([(board.name, random_.choice(POISON)) for board in met])

    async def _give_again(self, _met: list[StormBoard], random_: random.Random) -> None:
        """From as long ago as is remembered."""
        lately = [*self.log.lately]
        for board, result, blob in random_.sample(lately, min(len(lately), 50)):
            await board.give_again(result, blob)

    async def _forge(self, met: list[StormBoard], random_: random.Random) -> None:
        under_way = [board for board in self._boards if board.attempt][:20]
        over = [*self.log.lately][-20:]
        targets = [(b, b.attempt) for b in under_way] + [(b, r.attempt_id) for b, r, _ in over]
        for owner, attempt_id in targets:
            forger = random_.choice(met)
            if forger is not owner:
                await forger.forge(attempt_id, own=False)
        for board, result, _ in over:
            if self.log.answers[result.attempt_id][0] == 200:
                await board.forge(result.attempt_id, own=True)


async def play(orders: dict[str, Any]) -> None:
    """Until told to end."""
    storm, loop = Storm(orders), asyncio.get_running_loop()
    await storm.begin()
    print("ready", flush=True)
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        order = json.loads(line or '{"kind": "end"}')
        print(json.dumps(storm.told(order)), flush=True)
        if order["kind"] == "end":
            return


if __name__ == "__main__":
    uvloop.run(play(json.loads(sys.stdin.readline())))
