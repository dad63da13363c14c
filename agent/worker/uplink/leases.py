"""The lease on the running attempt: heartbeats renew it, and without them the child is ended."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from agent.contract.api_messages import HeartbeatAnswer
from agent.worker.isolation.child_process import CancelRequest


@dataclass(frozen=True)
class Lease:
    """``renewed_at``: when the request that renewed it was *sent*, so never later than the
    controller's own reading."""

    attempt_id: str
    lease_s: float
    renewed_at: float

    def ran_out(self, now: float) -> bool:
        """Whether the controller may have given the trial to another attempt by now."""
        return now - self.renewed_at > self.lease_s


class Leases:
    """Holds at most one lease, because a device executes one attempt at a time. Thread-safe.

    ``on_change`` is called when a lease begins, so that a heartbeat follows in time.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._cancel: CancelRequest | None = None
        self._stopping = False

    @contextlib.contextmanager
    def hold(self, attempt_id: str, lease_s: float, requested_at: float) -> Iterator[CancelRequest]:
        """Hold a lease while its attempt runs. The ``CancelRequest`` is set when it has to end."""
        with CancelRequest() as cancel:
            with self._lock:
                self._lease, self._cancel = Lease(attempt_id, lease_s, requested_at), cancel
                if self._stopping:
                    cancel.set("shutdown")
            self._on_change()
            try:
                yield cancel
            finally:
                with self._lock:
                    self._lease = self._cancel = None

    @property
    def attempt_id(self) -> str:
        """The running attempt; empty where none runs."""
        with self._lock:
            return self._lease.attempt_id if self._lease else ""

    def interval_s(self, heartbeat_s: float) -> float:
        """Time to the next heartbeat: at least three of them within a lease."""
        with self._lock:
            return min(heartbeat_s, self._lease.lease_s / 3) if self._lease else heartbeat_s

    def answered(self, attempt_id: str, answer: HeartbeatAnswer, sent_at: float) -> None:
        """Take a heartbeat's answer; ignored where it was sent for another attempt."""
        with self._lock:
            if self._lease is None or self._cancel is None or self._lease.attempt_id != attempt_id:
                return
            if answer.cancel:
                self._cancel.set("cancelled")
            elif not answer.renewed:
                self._cancel.set("lease")
            else:
                self._lease = replace(self._lease, lease_s=answer.lease_s, renewed_at=sent_at)

    def expire(self) -> None:
        """End the attempt if its lease has run out."""
        with self._lock:
            if self._lease and self._cancel and self._lease.ran_out(self._clock()):
                self._cancel.set("lease")

    def shut_down(self) -> None:
        """End the running attempt, and any that begins from now on: the agent stops."""
        with self._lock:
            self._stopping = True
            if self._cancel is not None:
                self._cancel.set("shutdown")
