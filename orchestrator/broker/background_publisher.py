"""Publishes doorbells in a background thread, so that a broker that hangs delays nobody.

The threads that answer devices publish the next attempt's doorbell. With a broker that accepts
connections but does not answer, each doorbell takes most of a minute; heartbeats, on which leases
depend, would wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

MAX_WAITING = 20_000
"""Doorbells that may wait; the oldest are dropped. More than one per device of a large farm."""
CLOSE_TIMEOUT_S = 5.0
"""How long ``close`` waits until the waiting doorbells are published."""


class BackgroundPublisher:
    """``FarmContext.publish_doorbell`` over another publisher, which may block and raise.
    Thread-safe.

    A doorbell that failed, or waited longer than ``keep_s``, is dropped: its attempt's lease brings
    it back. ``clock``: seconds.
    """

    def __init__(
        self,
        publish: Callable[[str, str], None],
        keep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish, self._keep_s, self._clock = publish, keep_s, clock
        self._waiting: deque[tuple[float, str, str]] = deque(
            maxlen=MAX_WAITING
        )  # the oldest goes first
        self._changed = threading.Condition()
        self._closing = False
        self._failed = False
        self._thread: threading.Thread | None = None

    def __call__(self, device: str, attempt_id: str) -> None:
        with self._changed:
            if self._closing:
                return
            self._waiting.append((self._clock(), device, attempt_id))
            if self._thread is None:  # not before the first doorbell
                self._thread = threading.Thread(
                    target=self._loop, name="doorbell-publisher", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Publish what waits, for ``CLOSE_TIMEOUT_S`` at most, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_TIMEOUT_S)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                since, device, attempt_id = self._waiting.popleft()
            if self._clock() - since <= self._keep_s:
                self._try(device, attempt_id)

    def _try(self, device: str, attempt_id: str) -> None:
        try:
            self._publish(device, attempt_id)
        except Exception as error:  # noqa: BLE001  the broker's client raises many kinds
            if not self._failed:  # log an outage once
                log.warning("no doorbell is rung, their leases will bring them back: %s", error)
            self._failed = True
            return
        self._failed = False
