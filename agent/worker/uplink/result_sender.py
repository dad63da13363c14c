"""Carries results from the outbox to the controller until each one is answered for good."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.contract import codec
from agent.contract.api_messages import with_samples
from agent.contract.failures import make_failure
from agent.contract.trial import TrialResult
from agent.worker.errors import AgentError, AttemptSuperseded, AttemptUnknown, RequestRefused
from agent.worker.uplink.http_client import Uplink
from agent.worker.uplink.outbox import Outbox, PendingResult

log = logging.getLogger(__name__)

SMALL_BYTES = 1 << 18
STUMBLE_S = 10.0
"""Pause after an error of the board's own, such as a disk that is full."""


class ResultSender(threading.Thread):
    """Delivers what is due, then sleeps until the next is, or until ``kick``."""

    def __init__(self, outbox: Outbox, uplink: Uplink) -> None:
        super().__init__(name="courier", daemon=True)
        self._outbox = outbox
        self._uplink = uplink
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def kick(self) -> None:
        """There is something new in the outbox."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()
        self._wake.set()

    def hand_in(self, parcel: PendingResult) -> bool:
        """Deliver what the outbox has no room for; whether it was answered for good."""
        try:
            _deliver(parcel, self._uplink)
        except (AgentError, OSError) as error:
            log.warning("result of %s not delivered: %s", parcel.attempt_id, error)
            return False
        if parcel.samples_path is not None:
            parcel.samples_path.unlink(missing_ok=True)
        return True

    def run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                deliver_due(self._outbox, self._uplink, self._stopping.is_set)
                wait_s = self._outbox.next_due_in_s()
            except Exception:
                log.exception("the courier stumbled")
                wait_s = STUMBLE_S
            self._wake.wait(wait_s)


def deliver_due(
    outbox: Outbox, uplink: Uplink, stopping: Callable[[], bool] = lambda: False
) -> int:
    """Deliver everything that is due; how many were answered for good."""
    done = 0
    while not stopping() and (parcel := outbox.due()) is not None:
        try:
            outcome = _deliver(parcel, uplink)
        except (AgentError, OSError) as error:
            wait_s = outbox.postpone(parcel.attempt_id)
            log.warning(
                "result of %s not delivered (again in %.0f s): %s", parcel.attempt_id, wait_s, error
            )
            continue
        outbox.delivered(parcel.attempt_id, outcome)
        if parcel.samples_path is not None:
            parcel.samples_path.unlink(missing_ok=True)
        done += 1
    return done


def _deliver(parcel: PendingResult, uplink: Uplink) -> str:
    """One delivery; how the controller answered. Raises what may pass with time."""
    text = parcel.result
    try:
        if _at_once(parcel, uplink):
            return "accepted"
        if parcel.samples_path is not None and not _upload(parcel.samples_path, uplink):
            text = _without_blob(text)
        uplink.result(parcel.attempt_id, text)
    except AttemptSuperseded:
        log.info("result of %s was superseded", parcel.attempt_id)
        return "superseded"
    except AttemptUnknown:
        log.warning("the controller does not know attempt %s any more", parcel.attempt_id)
        return "not_ours"
    except RequestRefused as error:
        log.error("result of %s was refused: %s", parcel.attempt_id, error)
        return "refused"
    return "accepted"


def _at_once(parcel: PendingResult, uplink: Uplink) -> bool:
    """Hand a result in that brings its samples along, where they are small and the controller takes
    them so. False: it is to be done in two steps, which also say for good what is wrong with it."""
    path = parcel.samples_path
    if path is None or not uplink.inline_bytes:
        return False
    try:
        if path.stat().st_size > uplink.inline_bytes:
            return False
        samples = path.read_bytes()
    except FileNotFoundError:
        return False
    named = json.loads(parcel.result).get("samples")
    if not named or named.get("sha256") != path.stem:  # what was built, say
        return False
    try:
        uplink.result(parcel.attempt_id, with_samples(parcel.result, samples))
    except RequestRefused as error:  # by an older controller beside the one that offered it, say
        log.info("samples of %s are sent apart: %s", parcel.attempt_id, error)
        return False
    return True


def _upload(path: Path, uplink: Uplink) -> bool:
    """False: the file is gone, or no longer what its name says."""
    sha256 = path.stem
    try:
        if not path.is_file():  # of two results with one blob the first took it along
            return uplink.has_blob(sha256)
        size = path.stat().st_size
        if size <= SMALL_BYTES:  # asking costs as much as sending
            uplink.put_blob(sha256, path)
        elif (start := uplink.uploaded(sha256)) is not None:  # what is there is not sent again
            uplink.put_blob(sha256, path, min(start, size - 1))
    except RequestRefused as error:
        log.error("blob %s was refused: %s", sha256, error)
        return False
    return True


def _without_blob(text: str) -> str:
    """A result whose blob was lost on this board counts for nothing; say so."""
    result = codec.loads(TrialResult, text)
    what, stage = ("what was built", "convert") if result.built else ("the raw samples", "measure")
    message = f"{what} was lost or damaged on this device before it was delivered"
    result = replace(
        result,
        status="failed",
        samples=None,
        built=None,
        failure=make_failure(stage, "io", message),
    )
    return codec.dumps(result)
