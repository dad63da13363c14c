"""Many boards simulated by one process: real queues and real HTTP requests, but no measured child.

Run as a script it reads its configuration as a line of JSON on stdin, prints ``ready`` when every
board has sent a heartbeat and consumes its queue, and prints its statistics when all results are
delivered. HTTP and Redis are spoken over plain sockets: on a real farm a board's own work is done
by another machine, so it must cost little here. A result includes its samples, as an agent's does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import uvloop
import zstandard

from agent import __version__, broker
from agent.contract import codec
from agent.contract.api_messages import Heartbeat, with_samples
from agent.contract.trial import SCHEMA, Phases, Samples, TrialResult

CALLS = 50
RING_S = 30
"""Timeout of one ``BRPOP``."""
LOST = (OSError, asyncio.IncompleteReadError, TimeoutError)
"""Errors of a connection that broke."""
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class BoardStatistics:
    """``idle_s``: seconds from a delivered result to the start of the next trial, one per trial."""

    idle_s: list[float] = field(default_factory=list)
    trials: int = 0
    refused: int = 0
    errors: int = 0


class Uplink:
    """The controller's API over a pool of at most ``connections`` persistent connections."""

    def __init__(self, url: str, connections: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._free = asyncio.Semaphore(connections)
        self._idle: list[Stream] = []
        self.heartbeat_s = 5.0  # from the last answer: the same for the whole farm

    async def call(self, method: str, path: str, token: str, body: bytes = b"") -> int:
        """The status of the answer; its body is dropped. Raises one of ``LOST``."""
        async with self._free:
            reader, writer = await self._connection()
            try:
                async with asyncio.timeout(120):
                    status = await self._exchange(reader, writer, method, path, token, body)
            except BaseException:
                writer.close()
                raise
            self._idle.append((reader, writer))
            return status

    async def _connection(self) -> Stream:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # the server closes those that nobody uses
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        token: str,
        body: bytes,
    ) -> int:
        head = (
            f"{method} /api/v1{path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        await self._send(writer, head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, found, rest = answer.partition(b"\r\ncontent-length: ")
        content = await reader.readexactly(int(rest.split(b"\r\n", 1)[0])) if found else b""
        if path.endswith("/heartbeat") and answer.startswith(b"http/1.1 200"):
            self.heartbeat_s = float(json.loads(content)["heartbeat_s"])
        return int(answer.split(b" ", 2)[1])

    async def _send(self, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(request)


class Queue:
    """One device's queue on Redis, read with the device's own credentials."""

    def __init__(self, name: str, url: str) -> None:
        self._key, self._parts = broker.queue_name(name), urlsplit(url)
        self._stream: Stream | None = None

    async def receive(self) -> str | None:
        """The attempt of the next doorbell; ``None`` where none came. Raises one of ``LOST``."""
        try:
            if self._stream is None:
                self._stream = await self._connected()
            reader, writer = self._stream
            writer.write(command("BRPOP", self._key, str(RING_S)))
            line = await reader.readline()
            if line == b"*-1\r\n":
                return None
            if line != b"*2\r\n":
                raise OSError(f"Redis says {line!r}")
            await self._bulk(reader)
            message = await self._bulk(reader)
        except BaseException:
            self.close()
            raise
        return self._attempt_of(message)

    def close(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
        self._stream = None

    def _attempt_of(self, message: bytes) -> str | None:
        body = base64.b64decode(json.loads(message)["body"])
        return str(json.loads(body)[1]["attempt_id"])

    async def _connected(self) -> Stream:
        reader, writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        if self._parts.username and self._parts.password:
            user, password = unquote(self._parts.username), unquote(self._parts.password)
            writer.write(command("AUTH", user, password))
            answer = await reader.readline()
            if answer != b"+OK\r\n":
                writer.close()
                self._refused(f"Redis refuses {user}: {answer!r}")
        return reader, writer

    def _refused(self, why: str) -> None:
        raise SystemExit(why)

    @staticmethod
    async def _bulk(reader: asyncio.StreamReader) -> bytes:
        length = int((await reader.readline())[1:])
        return (await reader.readexactly(length + 2))[:-2]


def command(*words: str) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


class Board:
    """One device: it sends heartbeats, and executes the attempts in its queue."""

    def __init__(self, name: str, own: dict[str, str], uplink: Uplink, config: dict[str, Any]):
        self._name, self._token = name, own["token"]
        self._uplink, self._queue = uplink, Queue(name, own["broker_url"])
        self._trial_s = float(config["trial_s"])
        self._attempt = ""

    async def beat(self, stats: BoardStatistics) -> None:
        body = codec.dumps(Heartbeat(__version__, self._attempt)).encode()
        await self._call("PUT", f"/devices/{self._name}/heartbeat", stats, body)

    async def keep_beating(self, stats: BoardStatistics, phase: float) -> None:
        """``phase``: the part of a period before the first heartbeat."""
        await asyncio.sleep(self._uplink.heartbeat_s * phase)
        while True:
            await self.beat(stats)
            await asyncio.sleep(self._uplink.heartbeat_s)

    async def work(self, stats: BoardStatistics) -> None:
        ended = 0.0
        while True:
            try:
                attempt_id = await self._queue.receive()
            except LOST:
                stats.errors += 1
                await asyncio.sleep(1)
                continue
            if attempt_id is None:
                continue
            if await self._call("POST", f"/attempts/{attempt_id}/start", stats) != 200:
                continue
            if ended:
                stats.idle_s.append(time.monotonic() - ended)
            self._attempt = attempt_id
            await asyncio.sleep(self._trial_s)
            result, blob = measured(attempt_id)
            ended = time.monotonic()
            status = await self.deliver(result, blob, stats)
            self._attempt = ""
            stats.trials += status == 200
            stats.refused += status != 200

    async def deliver(self, result: TrialResult, blob: bytes, stats: BoardStatistics) -> int:
        """Send the result with its samples; the status of the answer."""
        text = codec.dumps(result)
        body = (with_samples(text, blob) if result.samples is not None else text).encode()
        return await self._call("PUT", f"/attempts/{result.attempt_id}/result", stats, body)

    async def _call(self, method: str, path: str, stats: BoardStatistics, body: bytes = b"") -> int:
        """Retry until there is an answer, as the agent's outbox does."""
        while True:
            try:
                status = await self._uplink.call(method, path, self._token, body)
                if status < 500:
                    return status
            except LOST:
                pass
            stats.errors += 1
            await asyncio.sleep(1)


def measured(attempt_id: str) -> tuple[TrialResult, bytes]:
    """A result and its compressed samples, derived from the attempt's id: unique to it."""
    seed = int.from_bytes(hashlib.sha256(attempt_id.encode()).digest()[:4], "little")
    values = np.random.RandomState(seed).randint(90_000, 110_000, CALLS).astype("<i8")
    blob = zstandard.ZstdCompressor(level=3).compress(values.tobytes())
    samples = Samples(
        hashlib.sha256(blob).hexdigest(), len(blob), CALLS, ("caller",), "int64le+zstd", 1, 1,
        "precision", 0.005,
    )  # fmt: skip
    phases = Phases(measure_s=0.005, total_s=0.01)
    return TrialResult(SCHEMA, attempt_id, "ok", __version__, phases, samples=samples), blob


async def run(config: dict[str, Any]) -> BoardStatistics:
    """Run the boards until ``config["trials"]`` results were delivered."""
    stats, uplink = BoardStatistics(), Uplink(config["url"], int(config["connections"]))
    boards = [Board(name, own, uplink, config) for name, own in config["boards"].items()]
    await asyncio.gather(*(board.beat(stats) for board in boards))
    tasks = [asyncio.create_task(board.work(stats)) for board in boards]
    tasks += [
        asyncio.create_task(board.keep_beating(stats, turn / len(boards)))
        for turn, board in enumerate(boards)
    ]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while stats.trials < config["trials"]:
        await asyncio.sleep(0.05)
        for task in tasks:
            if task.done():
                task.result()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return stats


if __name__ == "__main__":
    found = uvloop.run(run(json.loads(sys.stdin.readline())))
    sys.stdout.write(json.dumps(asdict(found)))
