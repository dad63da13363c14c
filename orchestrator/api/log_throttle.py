"""Warnings that a thousand boards would bring forth together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

SELDOM_S = 10.0


class LogThrottle:
    """Warns once in ``SELDOM_S``, and says then how many times it had kept silent. ``clock`` in
    seconds."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._after, self._unsaid = float("-inf"), 0

    def warn(self, text: str, *given: object) -> None:
        now = self._clock()
        if now < self._after:
            self._unsaid += 1
            return
        if self._unsaid:
            text, given = f"{text} (and %d more since the last)", (*given, self._unsaid)
        self._log.warning(text, *given)
        self._after, self._unsaid = now + SELDOM_S, 0
