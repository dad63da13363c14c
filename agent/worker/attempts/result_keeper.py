"""Keeps a finished result until the controller has it, on a full disk too."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent.contract import codec
from agent.worker.attempts.attempt import FinishedAttempt
from agent.worker.uplink.blob_cache import BlobCache
from agent.worker.uplink.outbox import Outbox, PendingResult
from agent.worker.uplink.result_sender import ResultSender

log = logging.getLogger(__name__)

LEAST_FREE_BYTES = 16 << 20
"""With less free space in its state folder a board begins no attempt: it could not keep the
result."""
KEEP_AGAIN_S = 2.0
"""Pause between two tries to keep a result on a full disk."""


class ResultKeeper:
    """Puts results into the outbox, from which ``sender`` delivers them.

    ``blobs`` can be fetched again, so they are evicted where the disk is full.
    """

    def __init__(self, outbox: Outbox, sender: ResultSender, blobs: BlobCache) -> None:
        self._outbox = outbox
        self._sender = sender
        self._blobs = blobs

    def start(self) -> None:
        """Begin to deliver what an earlier agent left in the outbox."""
        self._sender.start()

    def knows(self, attempt_id: str) -> bool:
        """Whether a result of this attempt was kept before."""
        return self._outbox.knows(attempt_id)

    def keep(self, finished: FinishedAttempt, wait: Callable[[float], bool]) -> bool:
        """Put a result into the outbox and have it sent.

        On a full disk it evicts blobs and sends the result from memory, until one of the two
        succeeds. ``wait`` sleeps and returns whether the agent stops: then this returns false, and
        the next agent reports the attempt as lost.
        """
        attempt_id, text = finished.result.attempt_id, codec.dumps(finished.result)
        while True:
            try:
                self._outbox.put(attempt_id, text, finished.blob)
            except (sqlite3.Error, OSError) as error:
                log.error("the result of %s cannot be kept: %s", attempt_id, error)
            else:
                self._sender.wake()
                return True
            self._evict_blobs()
            if self._sender.send_now(PendingResult(attempt_id, text, finished.blob, 0)):
                return True
            if wait(KEEP_AGAIN_S):
                return False

    def has_room(self, folder: Path) -> bool:
        """Whether ``folder``'s disk can take a result, after evicting blobs if it could not."""
        if shutil.disk_usage(folder).free >= LEAST_FREE_BYTES:
            return True
        self._evict_blobs()
        return shutil.disk_usage(folder).free >= LEAST_FREE_BYTES

    def close(self, timeout_s: float) -> bool:
        """Try to deliver what is left, then end; false if a delivery hangs."""
        deadline = time.monotonic() + timeout_s
        self._sender.wake()
        while self._outbox.waiting() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._sender.stop()
        self._sender.join(timeout_s)
        if self._sender.is_alive():
            return False
        self._outbox.close()
        return True

    def _evict_blobs(self) -> None:
        with contextlib.suppress(OSError):
            self._blobs.evict(incoming_bytes=sys.maxsize)
