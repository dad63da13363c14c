"""Decides what a doorbell starts: an attempt, a heartbeat, or nothing."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from agent.contract import codec
from agent.contract.api_messages import Started
from agent.contract.failures import make_failure
from agent.worker.attempt_executor import AttemptExecutor
from agent.worker.attempts.attempt import FinishedAttempt, failed_result
from agent.worker.attempts.result_keeper import LEAST_FREE_BYTES, ResultKeeper
from agent.worker.errors import AgentError, AttemptSuperseded, AttemptUnknown
from agent.worker.uplink.heartbeat import HeartbeatSender
from agent.worker.uplink.http_client import Uplink

log = logging.getLogger(__name__)


class DoorbellHandler:
    """Leases an attempt when its doorbell comes, and has it executed.

    ``board_lock`` is held while an attempt runs and while runtimes are probed: neither ever runs
    beside the other. ``stopping`` is set when the agent stops.
    """

    def __init__(
        self,
        state_dir: Path,
        uplink: Uplink,
        heartbeat: HeartbeatSender,
        results: ResultKeeper,
        executor: AttemptExecutor,
        *,
        board_lock: threading.Lock,
        stopping: threading.Event,
    ) -> None:
        self._state_dir = state_dir
        self._uplink = uplink
        self._heartbeat = heartbeat
        self._results = results
        self._executor = executor
        self._board_lock = board_lock
        self._stopping = stopping
        self._busy = threading.Lock()

    def is_idle(self) -> bool:
        """Whether no attempt runs or is about to."""
        return not self._busy.locked()

    def on_arrival(self, attempt_id: str) -> bool:
        """Send a heartbeat at once where the doorbell is that of the running attempt: something has
        changed, and the heartbeat's answer says what. Whether it was."""
        if not attempt_id or attempt_id != self._heartbeat.leases.attempt_id:
            return False
        self._heartbeat.beat_soon()
        return True

    def on_doorbell(self, attempt_id: str) -> None:
        """Execute the attempt if it is this device's to execute; never raises.

        Drops the doorbell of an attempt that runs, or whose result was kept.
        """
        if self._stopping.is_set():
            return
        if self._results.knows(attempt_id) or not self._busy.acquire(blocking=False):
            log.info("dropped a doubled doorbell of %s", attempt_id)
            return
        try:
            with self._board_lock:
                if not self._stopping.is_set():
                    self._start(attempt_id)
        except Exception:
            log.exception("attempt %s was given up", attempt_id)
        finally:
            self._busy.release()

    def _start(self, attempt_id: str) -> None:
        requested_at = time.monotonic()
        if not self._results.has_room(self._state_dir):  # unanswered, it costs no try
            log.error("less than %d MiB free: %s must wait", LEAST_FREE_BYTES >> 20, attempt_id)
            return
        started = self._lease(attempt_id)
        if started is not None:
            self._executor.execute(attempt_id, started, requested_at)

    def _lease(self, attempt_id: str) -> Started | None:
        """Ask the controller for the attempt; ``None`` where there is nothing to execute."""
        try:
            return self._uplink.start(attempt_id)
        except (AttemptUnknown, AttemptSuperseded) as error:
            log.info("dropped the doorbell of %s: %s", attempt_id, error)
        except codec.ContractError as error:
            message = f"this agent cannot read it: {error}"
            failure = make_failure("environment", "contract", message)
            finished = FinishedAttempt(failed_result(attempt_id, failure))
            self._results.keep(finished, self._stopping.wait)
        except AgentError as error:
            log.warning("could not start %s, the controller will ring again: %s", attempt_id, error)
        return None
