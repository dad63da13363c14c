"""Rings doorbells in a thread of its own: a broker that hangs keeps nobody waiting.

Whoever answers devices rings for the next attempt. A broker that takes connections and says
nothing costs each doorbell most of a minute, and heartbeats, on which leases hang, would wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

MOST = 20_000
"""Doorbells that wait to be rung: more than one for each device of a large farm."""
FAREWELL_S = 5.0
"""How long ``close`` waits for those that wait."""


class BackgroundPublisher:
    """``FarmContext.ring`` over another, which may take its time and raise. Thread-safe.

    One that failed, or waited longer than ``keep_s``, is not rung: its attempt's lease brings it
    back. ``clock`` in seconds.
    """

    def __init__(
        self,
        ring: Callable[[str, str], None],
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring, self._keep_s, self._clock = ring, keep_s, clock
        self._waiting: deque[tuple[float, str, str]] = deque(maxlen=MOST)  # the oldest goes first
        self._news = threading.Condition()
        self._closing = False
        self._failed = False
        self._thread: threading.Thread | None = None

    def __call__(self, device: str, attempt_id: str) -> None:
        with self._news:
            if self._closing:
                return
            self._waiting.append((self._clock(), device, attempt_id))
            if self._thread is None:  # a farm that is only looked at rings nobody
                self._thread = threading.Thread(target=self._loop, name="ringer", daemon=True)
                self._thread.start()
            self._news.notify()

    def close(self) -> None:
        """Ring what waits, for seconds at most, then no more."""
        with self._news:
            self._closing = True
            self._news.notify()
            thread = self._thread
        if thread is not None:
            thread.join(FAREWELL_S)

    def _loop(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                since, device, attempt_id = self._waiting.popleft()
            if self._clock() - since <= self._keep_s:
                self._try(device, attempt_id)

    def _try(self, device: str, attempt_id: str) -> None:
        try:
            self._ring(device, attempt_id)
        except Exception as error:  # noqa: BLE001  the broker's client raises many kinds
            if not self._failed:  # an hour without broker is one line
                log.warning("no doorbell is rung, their leases will bring them back: %s", error)
            self._failed = True
            return
        self._failed = False
