"""Limits the rate of a warning that a thousand boards may cause at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

INTERVAL_S = 10.0


class LogThrottle:
    """Logs one warning in ``INTERVAL_S`` at most, with the number of those dropped since.

    ``clock``: seconds.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._next_at, self._dropped = float("-inf"), 0

    def warn(self, text: str, *args: object) -> None:
        now = self._clock()
        if now < self._next_at:
            self._dropped += 1
            return
        if self._dropped:
            text, args = f"{text} (and %d more since the last)", (*args, self._dropped)
        self._log.warning(text, *args)
        self._next_at, self._dropped = now + INTERVAL_S, 0
