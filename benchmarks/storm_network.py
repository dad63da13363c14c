"""The network of the storm's boards: an uplink and a queue that fail, and strangers who ring."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from urllib.parse import urlsplit

from agent import broker
from benchmarks.scale_boards import LOST, Queue, Uplink
from benchmarks.storm_schedule import STEPS


@dataclass(frozen=True)
class Weather:
    """What the network, or the queue, does to a share of the boards until a moment."""

    kind: str = ""
    step: str = ""
    share: float = 0.0
    salt: int = 0
    until: float = 0.0

    def meets(self, who: str, path: str = "") -> bool:
        if time.monotonic() > self.until or (self.step and STEPS[self.step][1] not in path):
            return False
        return zlib.crc32(f"{self.salt}{who}".encode()) < self.share * 2**32


class StormUplink(Uplink):
    """The API through a network that fails."""

    def __init__(self, url: str, connections: int, counts: Counter[str]) -> None:
        super().__init__(url, connections)
        self.weather, self._counts = Weather(), counts
        self._random = random.Random(0)

    async def call(self, method: str, path: str, token: str, body: bytes = b"") -> int:
        now = self.weather
        if not now.meets(token, path) or now.kind in ("half", "unanswered"):
            return await super().call(method, path, token, body)
        self._counts[f"requests {now.kind}"] += 1
        if now.kind == "stalled":  # it has begun to arrive, and nothing more comes
            _, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(f"{method} /api/v1{path} HTTP/1.1\r\nContent-Length: 9\r\n".encode())
            await asyncio.sleep(max(0.0, now.until - time.monotonic()))
            _reset(writer)
        raise ConnectionResetError(now.kind)

    async def _send(self, writer: asyncio.StreamWriter, request: bytes) -> None:
        now, (line, _, bearer, *_) = self.weather, request.split(b"\r\n", 3)
        if not now.meets(bearer.decode().rpartition(" ")[2], line.decode().split(" ")[1]):
            writer.write(request)
            return
        self._counts[f"requests {now.kind}"] += 1
        part = len(request) if now.kind == "unanswered" else self._random.randrange(len(request))
        writer.write(request[:part])
        await writer.drain()
        # some are cut off while they are handled, some before: both must be the same to a board
        await asyncio.sleep(self._random.choice((0.0, 0.05, 0.5)))
        _reset(writer)
        raise ConnectionResetError(now.kind)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(Exception):
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
    writer.transport.abort()


class StormQueue(Queue):
    """Doorbells as an agent hears them: what it cannot read it drops, and a Redis that has
    forgotten its user it asks again."""

    def __init__(self, name: str, url: str, counts: Counter[str]) -> None:
        super().__init__(name, url)
        self._counts = counts

    def _refused(self, why: str) -> None:
        self._counts["refused by Redis"] += 1
        raise OSError(why)

    def _attempt_of(self, message: bytes) -> str | None:
        try:
            return super()._attempt_of(message)
        except (ValueError, KeyError, TypeError, IndexError):
            self._counts["doorbells of poison"] += 1
            return None


class Doorbells:
    """Whoever can push to any queue."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)

    async def push(self, pairs: list[tuple[str, bytes]]) -> None:
        """Of device and message each; a Redis that is away hears nothing."""
        with contextlib.suppress(*LOST):
            async with asyncio.timeout(5):
                place = self._parts.hostname, self._parts.port
                reader, writer = await asyncio.open_connection(*place)
                for device, message in pairs:
                    key = broker.queue_name(device).encode()
                    writer.write(b"*3\r\n$5\r\nLPUSH\r\n" + _bulk(key) + _bulk(message))
                await writer.drain()
                for _ in pairs:
                    await reader.readline()
                writer.close()


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(word), word)


def doorbell(attempt_id: str) -> bytes:
    """A message as Celery writes it, as far as a played board reads it."""
    body = json.dumps([[], {"attempt_id": attempt_id}, {}]).encode()
    return json.dumps({"body": base64.b64encode(body).decode()}).encode()
