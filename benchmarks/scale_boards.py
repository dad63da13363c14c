"""Many boards played by one process: the real queues, the real uplink, no child.

``python -m benchmarks.scale_boards`` reads its orders as JSON on stdin and prints what it saw.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import redis.asyncio
import redis.exceptions
import zstandard

from agent import __version__, broker, codec
from agent.contract import SCHEMA, Phases, Samples, TrialResult
from agent.uplink_messages import Heartbeat

CALLS = 50
RING_S = 5
"""How long one wait for a doorbell lasts before the next begins."""


@dataclass
class Seen:
    """Seconds; ``idle_s`` from handing in a result to the start of the next trial."""

    idle_s: list[float] = field(default_factory=list)
    trials: int = 0
    refused: int = 0
    errors: int = 0


class Board:
    """One device: it beats, and executes what it is rung for."""

    def __init__(
        self, name: str, token: str, http: httpx.AsyncClient, queue: Any, orders: dict[str, Any]
    ) -> None:
        self._name = name
        self._http = http
        self._queue = queue
        self._orders = orders
        self._headers = {"Authorization": f"Bearer {token}"}
        self._attempt = ""

    async def beat(self, seen: Seen) -> None:
        period_s = float(self._orders["heartbeat_s"])
        await asyncio.sleep(period_s * (hash(self._name) % 1000) / 1000)
        while True:
            body = codec.dumps(Heartbeat(__version__, self._attempt))
            try:
                url = f"/devices/{self._name}/heartbeat"
                await self._http.put(url, content=body, headers=self._headers)
            except httpx.TransportError:
                seen.errors += 1
            await asyncio.sleep(period_s)

    async def work(self, seen: Seen) -> None:
        ended = 0.0
        while True:
            attempt_id = await self._rung()
            if attempt_id is None:
                continue
            answer = await self._call("POST", f"/attempts/{attempt_id}/start", seen)
            if answer.status_code != 200:
                continue
            if ended:
                seen.idle_s.append(time.monotonic() - ended)
            self._attempt = attempt_id
            await asyncio.sleep(float(self._orders["trial_s"]))
            result, blob = _measured(attempt_id)
            ended = time.monotonic()
            assert result.samples is not None
            where = f"/blobs/{result.samples.sha256}"
            await self._call("PUT", where, seen, blob)
            body = codec.dumps(result).encode()
            answer = await self._call("PUT", f"/attempts/{attempt_id}/result", seen, body)
            self._attempt = ""
            seen.trials += answer.status_code == 200
            seen.refused += answer.status_code != 200

    async def _rung(self) -> str | None:
        try:
            message = await self._queue.brpop([broker.queue_name(self._name)], RING_S)
        except redis.exceptions.RedisError:
            await asyncio.sleep(1)
            return None
        if message is None:
            return None
        body = json.loads(base64.b64decode(json.loads(message[1])["body"]))
        return str(body[1]["attempt_id"])

    async def _call(
        self, method: str, url: str, seen: Seen, body: bytes | None = None
    ) -> httpx.Response:
        while True:
            try:
                answer = await self._http.request(method, url, content=body, headers=self._headers)
            except httpx.TransportError:
                seen.errors += 1
            else:
                if answer.status_code < 500:
                    return answer
                seen.errors += 1
            await asyncio.sleep(1)


def _measured(attempt_id: str) -> tuple[TrialResult, bytes]:
    """Samples that no other attempt has, as a real board's."""
    seed = int.from_bytes(hashlib.sha256(attempt_id.encode()).digest()[:4], "little")
    values = np.random.RandomState(seed).randint(90_000, 110_000, CALLS).astype("<i8")
    blob = zstandard.ZstdCompressor(level=3).compress(values.tobytes())
    samples = Samples(
        hashlib.sha256(blob).hexdigest(), len(blob), CALLS, ("caller",), "int64le+zstd", 1, 1,
        "precision", 0.005,
    )  # fmt: skip
    phases = Phases(measure_s=0.005, total_s=0.01)
    return TrialResult(SCHEMA, attempt_id, "ok", __version__, phases, samples=samples), blob


async def play(orders: dict[str, Any]) -> Seen:
    """Until ``orders["trials"]`` results were handed in."""
    seen = Seen()
    boards: dict[str, str] = orders["boards"]
    limits = httpx.Limits(max_connections=int(orders["connections"]))
    queue = redis.asyncio.Redis.from_url(
        orders["broker_url"], max_connections=len(boards) + 8, socket_timeout=RING_S + 30
    )
    url = orders["url"] + "/api/v1"
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120.0) as http, queue:
        tasks = []
        for name, token in boards.items():
            board = Board(name, token, http, queue, orders)
            tasks += [asyncio.create_task(board.beat(seen)), asyncio.create_task(board.work(seen))]
        while seen.trials < orders["trials"]:
            await asyncio.sleep(0.05)
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return seen


if __name__ == "__main__":
    found = asyncio.run(play(json.load(sys.stdin)))
    json.dump(found.__dict__, sys.stdout)
