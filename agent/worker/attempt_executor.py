"""Executes a leased attempt: its folder, its lease, the runtime environments, and its result."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import threading
import time
from collections.abc import Iterator

from agent.contract.api_messages import Started
from agent.worker.attempts import attempt
from agent.worker.attempts.attempt import AttemptServices, FinishedAttempt
from agent.worker.attempts.result_keeper import ResultKeeper
from agent.worker.environments.commands import ATTEMPT_LOCK_NAME
from agent.worker.state_dir import StateFolders, begin
from agent.worker.uplink.leases import Leases

log = logging.getLogger(__name__)

REMOVAL_S = 120.0
"""How long an attempt waits for an environment that is being removed."""


class AttemptExecutor:
    """Executes one attempt at a time; the caller sees to that.

    ``stopping`` is set when the agent stops.
    """

    def __init__(
        self,
        folders: StateFolders,
        leases: Leases,
        services: AttemptServices,
        results: ResultKeeper,
        stopping: threading.Event,
    ) -> None:
        self._folders = folders
        self._leases = leases
        self._services = services
        self._results = results
        self._stopping = stopping

    def execute(self, attempt_id: str, started: Started, requested_at: float) -> None:
        """Run the attempt to its end and keep the result.

        ``requested_at``: monotonic time at which the lease was requested.
        """
        log.info("attempt %s begins", attempt_id)
        folder = self._folders.attempt(attempt_id)
        with (
            self._leases.hold(attempt_id, started.lease_s, requested_at) as cancel,
            self._environments_locked(),
        ):
            try:
                begin(folder, attempt_id)
            except OSError as error:  # the disk has filled up since it was checked
                finished = attempt.failed_to_begin(attempt_id, error)
            else:
                finished = attempt.execute(
                    started.request, self._services, cancel, folder, requested_at
                )
            kept = self._results.keep(finished, self._stopping.wait)
        if kept:  # else the folder tells the next agent that the attempt was begun
            shutil.rmtree(folder, ignore_errors=True)
        _log_end(attempt_id, finished)

    @contextlib.contextmanager
    def _environments_locked(self) -> Iterator[None]:
        """Inside, ``runtimes remove`` waits. A removal that is under way is waited for."""
        deadline = time.monotonic() + REMOVAL_S
        with (self._folders.state / ATTEMPT_LOCK_NAME).open("w") as file:
            while not self._stopping.is_set():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        log.warning("an environment is being removed for %.0f s", REMOVAL_S)
                        break
                self._stopping.wait(0.2)
            yield


def _log_end(attempt_id: str, finished: FinishedAttempt) -> None:
    failure = finished.result.failure
    log.info(
        "attempt %s ends: %s%s",
        attempt_id,
        finished.result.status,
        f" ({failure.stage}: {failure.message})" if failure else "",
    )
