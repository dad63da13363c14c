"""The simulated boards' network: an uplink and a queue that fail."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from struct import pack

from support.simulated_boards import Queue, Uplink

from .schedule import STEPS


@dataclass(frozen=True)
class NetworkFault:
    """A failure of the network, or of the queue, for a share of the boards.

    ``step``: only requests of that step of ``schedule.STEPS``; ``until``: its end, in seconds of
    the monotonic clock; ``salt`` selects the boards."""

    kind: str = ""
    step: str = ""
    share: float = 0.0
    salt: int = 0
    until: float = 0.0

    def hits(self, board: str, path: str = "") -> bool:
        if time.monotonic() > self.until or (self.step and STEPS[self.step][1] not in path):
            return False
        return zlib.crc32(f"{self.salt}{board}".encode()) < self.share * 2**32


class FaultyUplink(Uplink):
    """The API through a network with faults."""

    def __init__(self, url: str, connections: int, counts: Counter[str]) -> None:
        super().__init__(url, connections)
        self.fault, self._counts = NetworkFault(), counts
        self._random = random.Random(0)

    async def call(self, method: str, path: str, token: str, body: bytes = b"") -> int:
        fault = self.fault
        if not fault.hits(token, path) or fault.kind in ("half", "unanswered"):
            return await super().call(method, path, token, body)
        self._counts[f"requests {fault.kind}"] += 1
        if fault.kind == "stalled":  # the request begins to arrive and never ends
            _, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(f"{method} /api/v1{path} HTTP/1.1\r\nContent-Length: 9\r\n".encode())
            await asyncio.sleep(max(0.0, fault.until - time.monotonic()))
            _reset(writer)
        raise ConnectionResetError(fault.kind)

    async def _send(self, writer: asyncio.StreamWriter, request: bytes) -> None:
        fault, (line, _, bearer, *_) = self.fault, request.split(b"\r\n", 3)
        if not fault.hits(bearer.decode().rpartition(" ")[2], line.decode().split(" ")[1]):
            writer.write(request)
            return
        self._counts[f"requests {fault.kind}"] += 1
        part = len(request) if fault.kind == "unanswered" else self._random.randrange(len(request))
        writer.write(request[:part])
        await writer.drain()
        # cut some requests while they are handled, some before: a board cannot tell which
        await asyncio.sleep(self._random.choice((0.0, 0.05, 0.5)))
        _reset(writer)
        raise ConnectionResetError(fault.kind)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(Exception):
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
    writer.transport.abort()


class FaultyQueue(Queue):
    """A queue read as the agent reads it: malformed messages are dropped, and after a Redis that
    lost its users the connection is retried."""

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
