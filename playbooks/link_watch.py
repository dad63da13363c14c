"""Notices that a host no longer answers, long before the connection breaks."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from playbooks.waiting import Waiting

SILENT_S = 3.0
_RETRANSMITS = 2
"""Index of ``tcpi_retransmits`` in Linux's struct tcp_info."""


class LinkWatch:
    """Says so, while TCP sends the same again and again to ``name``. ``limit_s``: when it gives
    up."""

    def __init__(
        self,
        connected: socket.socket | None,
        name: str,
        limit_s: float,
        waiting: Waiting,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connected = connected if hasattr(socket, "TCP_INFO") else None
        self._name = name
        self._limit_s = limit_s
        self._waiting = waiting
        self._clock = clock
        self._since: float | None = None
        self._shown = contextlib.ExitStack()
        self._told = False

    def tick(self) -> None:
        """Look at the link; called a few times a second."""
        if self._connected is None or not self._unanswered():
            self.close()
            return
        now = self._clock()
        self._since = now if self._since is None else self._since
        silent_s = now - self._since
        if silent_s >= SILENT_S and not self._told:
            self._told = True
            self._shown.enter_context(
                self._waiting(
                    f"{self._name}, silent for {silent_s:.0f} s (power, cable, network?): given up "
                    f"{self._limit_s - silent_s:.0f} s from now"
                )
            )

    def close(self) -> None:
        """It answers, or nobody asks any more."""
        self._since, self._told = None, False
        self._shown.close()

    def _unanswered(self) -> bool:
        assert self._connected is not None
        try:
            found = self._connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        except OSError:
            return False
        return found[_RETRANSMITS] > 0
