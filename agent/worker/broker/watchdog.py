"""Proves that doorbells arrive: an idle agent rings its own, and systemd hears of it.

Only a round trip through the broker counts; a consumer that hangs is started anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable

from celery import Celery

from agent import broker
from agent.worker.broker.consumer import QueueConsumer

log = logging.getLogger(__name__)

PERIOD_S = 60.0
ANSWER_S = 30.0
PREFIX = "watchdog-"


class Watchdog(threading.Thread):
    """Rings while ``is_idle()``; never beside a measurement.

    The agent passes every doorbell through ``heard``.
    """

    def __init__(
        self,
        app: Celery,
        device: str,
        doorbell: QueueConsumer,
        is_idle: Callable[[], bool],
        *,
        period_s: float = PERIOD_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._app = app
        self._device = device
        self._doorbell = doorbell
        self._is_idle = is_idle
        self._period_s = period_s
        self._answer_s = answer_s
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._expected = ""
        self.round_trips = 0
        self.restarts = 0

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()
        self._answered.set()

    def heard(self, attempt_id: str) -> bool:
        """Whether a doorbell was one of ours."""
        if not attempt_id.startswith(PREFIX):
            return False
        if attempt_id == self._expected:
            self.round_trips += 1
            self._answered.set()
        return True

    def run(self) -> None:
        notify("READY=1")
        while not self._stopping.wait(self._period_s):
            if not self._is_idle():
                notify("WATCHDOG=1")  # a child's deadline guards this time
                continue
            self._check()
        notify("STOPPING=1")

    def _check(self) -> None:
        self._answered.clear()
        self._expected = f"{PREFIX}{uuid.uuid4().hex}"
        try:
            broker.ring(self._app, self._device, self._expected)
        except broker.BrokerDown as error:
            log.warning("%s", error)  # the consumer knows it too, and connects again by itself
            return
        answered = self._answered.wait(self._answer_s)
        if self._stopping.is_set():
            return
        if answered or not self._is_idle():
            notify("WATCHDOG=1")
            return
        log.error("no doorbell in %.0f s: the consumer hangs, it starts anew", self._answer_s)
        self.restarts += 1
        self._doorbell.restart()


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), if it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.send(state.encode())
