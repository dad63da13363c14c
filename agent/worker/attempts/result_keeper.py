"""What a started agent works at, and how a finished result leaves it, on a full disk too."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.contract import codec
from agent.worker.attempts import attempt
from agent.worker.uplink.outbox import Outbox, PendingResult
from agent.worker.uplink.result_sender import ResultSender

log = logging.getLogger(__name__)

LEAST_FREE_BYTES = 16 << 20
"""With less in its state folder a board begins nothing: it could not keep the result."""
KEEP_AGAIN_S = 2.0
"""Between two tries to keep a result on a disk that is full."""


@dataclass(frozen=True)
class ResultKeeper:
    """What a started agent works at."""

    outbox: Outbox
    courier: ResultSender
    tools: attempt.AttemptServices

    def keep(self, finished: attempt.FinishedAttempt, wait: Callable[[float], bool]) -> bool:
        """Put a result into the outbox, and have it carried.

        On a disk that is full it gives up what can be fetched or made again, and hands the result
        in from memory, until one of the two succeeds. ``wait`` sleeps, and says whether the agent
        stops: then this is false, and the next agent reports the attempt as lost.
        """
        attempt_id, text = finished.result.attempt_id, codec.dumps(finished.result)
        while True:
            try:
                self.outbox.put(attempt_id, text, finished.blob)
            except (sqlite3.Error, OSError) as error:
                log.error("the result of %s cannot be kept: %s", attempt_id, error)
            else:
                self.courier.kick()
                return True
            self.make_room()
            if self.courier.hand_in(PendingResult(attempt_id, text, finished.blob, 0)):
                return True
            if wait(KEEP_AGAIN_S):
                return False

    def has_room(self, folder: Path) -> bool:
        """Whether there is space to work there; a doorbell that is not answered costs no try."""
        if shutil.disk_usage(folder).free >= LEAST_FREE_BYTES:
            return True
        self.make_room()
        return shutil.disk_usage(folder).free >= LEAST_FREE_BYTES

    def make_room(self) -> None:
        """Give up what can be fetched or made again."""
        with contextlib.suppress(OSError):
            self.tools.blobs.evict(incoming_bytes=sys.maxsize)

    def close(self, timeout_s: float) -> bool:
        """Try to deliver what is left, then end; false if a delivery hangs."""
        deadline = time.monotonic() + timeout_s
        self.courier.kick()
        while self.outbox.waiting() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.courier.stop()
        self.courier.join(timeout_s)
        if self.courier.is_alive():
            return False
        self.outbox.close()
        return True
