"""A small TCP proxy between agents and servers, with faults."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import struct
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from .schedule import STEPS

BEGINNINGS = {
    step: re.compile(f"{method} \\S*{path}".encode()) for step, (method, path) in STEPS.items()
}
"""How a request of each step begins."""
MODES = (
    "pass", "cut", "silent", "slow", "no_answers", "half",
    *(f"{what}_{step}" for what in ("lost", "unanswered") for step in STEPS),
)  # fmt: skip
"""``cut``: connections are reset, new ones refused. ``silent``: nothing passes, nothing closes.
``slow``: each piece takes a while. ``no_answers``: requests arrive, their answers are cut off.
``half``: a connection breaks after some bytes of a request. ``lost_…``: it breaks before a request
of that step, ``unanswered_…``: after it, before the answer; all others pass."""
HALF_BYTES = 700
SLOW_S = 0.4


@dataclass(eq=False)
class _Line:
    """The two ends of a connection. ``mute``: cut the next answer off."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    mute: bool = False

    def reset(self) -> None:
        for writer in (self.near, self.far):
            with contextlib.suppress(Exception):
                socket = writer.get_extra_info("socket")
                socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Forwards a port of its own on ``host`` to ``upstreams`` (host, port), round robin by
    connection."""

    def __init__(self, upstreams: Sequence[tuple[str, int]], host: str = "127.0.0.1") -> None:
        self._host = host
        self._turns = itertools.cycle(upstreams)
        self._count = len(upstreams)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._lines: set[_Line] = set()
        self._passing = asyncio.Event()
        self.mode = "pass"
        self.busy = threading.Lock()
        """A lock, held by the fault that set the mode."""
        self.hits = 0
        """Requests that modes of one step have hit so far."""
        self.port = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, self._host, 0)).result(30)
        self.port = self._server.sockets[0].getsockname()[1]
        self.set("pass")
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close()).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def set(self, mode: str) -> None:
        """Set the mode: one of ``MODES``."""
        self._do(self._set(mode)).result(30)

    def _do(self, what: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(what, self._loop)

    async def _set(self, mode: str) -> None:
        before, self.mode = self.mode, mode
        if mode == "silent":
            self._passing.clear()
            return
        if mode == "cut" or before == "silent":
            # what was sent through a silent network is lost
            for line in list(self._lines):
                line.reset()
        self._passing.set()

    async def _close(self) -> None:
        self._server.close()
        await self._set("cut")
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = None
        if self.mode != "cut":
            await self._passing.wait()
            for _ in range(self._count):
                with contextlib.suppress(OSError):
                    far = await asyncio.open_connection(*next(self._turns))
                    break
        if far is None:
            writer.transport.abort()
            return
        line = _Line(writer, far[1])
        self._lines.add(line)
        try:
            await asyncio.gather(
                self._pump(line, reader, far[1], True), self._pump(line, far[0], writer, False)
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            line.reset()
            self._lines.discard(line)

    def _is_hit(self, chunk: bytes) -> bool:
        """Whether a request of the mode's step begins here. Clients wait for each answer, so each
        request begins with a chunk of its own."""
        beginning = BEGINNINGS.get(self.mode.partition("_")[2])
        return beginning is not None and beginning.match(chunk) is not None

    async def _pump(
        self,
        line: _Line,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        to_server: bool,
    ) -> None:
        passed = 0
        while chunk := await source.read(1 << 14):
            await self._passing.wait()
            if self.mode == "slow":
                await asyncio.sleep(SLOW_S)
            if not to_server and (line.mute or self.mode == "no_answers"):
                line.reset()
                return
            if to_server and self._is_hit(chunk):
                self.hits += 1
                if self.mode.startswith("lost"):
                    line.reset()
                    return
                line.mute = True
            if self.mode == "half" and to_server:
                chunk = chunk[: max(0, HALF_BYTES - passed)]
            sink.write(chunk)
            await sink.drain()
            passed += len(chunk)
            if self.mode == "half" and to_server and passed >= HALF_BYTES:
                line.reset()
                return
        line.reset()
