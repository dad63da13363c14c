"""Proves that doorbells arrive: an idle agent sends itself one, and systemd is told.

Only a round trip through the broker counts; a consumer that hangs is restarted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable

from agent import broker
from agent.worker.broker.consumer import QueueConsumer

log = logging.getLogger(__name__)

PERIOD_S = 60.0
ANSWER_S = 30.0


class Watchdog(threading.Thread):
    """Checks ``consumer`` every ``period_s`` while ``is_idle()``; never beside a measurement."""

    def __init__(
        self,
        consumer: QueueConsumer,
        is_idle: Callable[[], bool],
        *,
        period_s: float = PERIOD_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._consumer = consumer
        self._is_idle = is_idle
        self._period_s = period_s
        self._answer_s = answer_s
        self._stopping = threading.Event()
        self.round_trips = 0
        self.restarts = 0

    def stop(self) -> None:
        """Ask the thread to end. A round trip under way ends with the consumer."""
        self._stopping.set()

    def run(self) -> None:
        notify("READY=1")
        while not self._stopping.wait(self._period_s):
            if not self._is_idle():
                notify("WATCHDOG=1")  # a child's deadline guards this time
                continue
            self._check()
        notify("STOPPING=1")

    def _check(self) -> None:
        try:
            answered = self._consumer.round_trip(self._answer_s)
        except broker.BrokerDown as error:
            log.warning("%s", error)  # the consumer notices too, and reconnects by itself
            return
        if self._stopping.is_set():
            return
        self.round_trips += answered
        if answered or not self._is_idle():
            notify("WATCHDOG=1")
            return
        log.error("no doorbell in %.0f s: the consumer hangs, it starts anew", self._answer_s)
        self.restarts += 1
        self._consumer.restart()


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)) where it set ``NOTIFY_SOCKET``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.send(state.encode())
