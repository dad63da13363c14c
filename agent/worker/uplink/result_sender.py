"""Sends results from the outbox to the controller until each has a final answer."""

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
"""A blob up to this size is sent without asking first: the question would cost as much."""
ERROR_PAUSE_S = 10.0
"""Pause after an error on the board itself, such as a full disk."""


class ResultSender(threading.Thread):
    """Delivers what is due, then sleeps until the next result is due, or until ``wake``."""

    def __init__(self, outbox: Outbox, uplink: Uplink) -> None:
        super().__init__(name="result-sender", daemon=True)
        self._outbox = outbox
        self._uplink = uplink
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def wake(self) -> None:
        """Look into the outbox now: it has a new result."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()
        self._wake.set()

    def send_now(self, pending: PendingResult) -> bool:
        """Deliver a result that the outbox has no room for; whether it got a final answer."""
        try:
            _deliver(pending, self._uplink)
        except (AgentError, OSError) as error:
            log.warning("result of %s not delivered: %s", pending.attempt_id, error)
            return False
        if pending.samples_path is not None:
            pending.samples_path.unlink(missing_ok=True)
        return True

    def run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                deliver_due(self._outbox, self._uplink, self._stopping.is_set)
                wait_s = self._outbox.next_due_in_s()
            except Exception:
                log.exception("the result sender failed")
                wait_s = ERROR_PAUSE_S
            self._wake.wait(wait_s)


def deliver_due(
    outbox: Outbox, uplink: Uplink, stopping: Callable[[], bool] = lambda: False
) -> int:
    """Deliver everything that is due; how many got a final answer."""
    done = 0
    while not stopping() and (pending := outbox.due()) is not None:
        try:
            outcome = _deliver(pending, uplink)
        except (AgentError, OSError) as error:
            wait_s = outbox.postpone(pending.attempt_id)
            log.warning(
                "result of %s not delivered (again in %.0f s): %s",
                pending.attempt_id,
                wait_s,
                error,
            )
            continue
        outbox.delivered(pending.attempt_id, outcome)
        if pending.samples_path is not None:
            pending.samples_path.unlink(missing_ok=True)
        done += 1
    return done


def _deliver(pending: PendingResult, uplink: Uplink) -> str:
    """Deliver one result; the controller's final answer. Raises ``AgentError`` or ``OSError`` where
    it may succeed later."""
    text = pending.result
    try:
        if _send_inline(pending, uplink):
            return "accepted"
        if pending.samples_path is not None and not _upload(pending.samples_path, uplink):
            text = _without_blob(text)
        _send(pending.attempt_id, text, uplink)
    except AttemptSuperseded:
        log.info("result of %s was superseded", pending.attempt_id)
        return "superseded"
    except AttemptUnknown:
        log.warning("the controller does not know attempt %s any more", pending.attempt_id)
        return "not_ours"
    except RequestRefused as error:
        log.error("result of %s was refused: %s", pending.attempt_id, error)
        return "refused"
    return "accepted"


def _send(attempt_id: str, text: str, uplink: Uplink) -> None:
    """Send a result; once more in the words of the release before to a controller that refuses
    what it does not know. Raises what ``Uplink.result`` does."""
    try:
        uplink.result(attempt_id, text)
    except RequestRefused as error:
        plain = _in_older_form(text)
        if plain is None or json.loads(plain) == json.loads(text):
            raise
        log.info("result of %s is sent in an older form: %s", attempt_id, error)
        uplink.result(attempt_id, plain)


def _in_older_form(text: str) -> str | None:
    """The result without what releases before this one do not know; ``None``: it is of yet another
    contract, and only the controller judges it."""
    try:
        return codec.without_newer(TrialResult, text)
    except codec.ContractError:
        return None


def _send_inline(pending: PendingResult, uplink: Uplink) -> bool:
    """Send a result with its samples in one request, where they are small and the controller takes
    that. False: send them in two steps, whose answers also say for good what is wrong."""
    path = pending.samples_path
    if path is None or not uplink.inline_bytes:
        return False
    try:
        if path.stat().st_size > uplink.inline_bytes:
            return False
        samples = path.read_bytes()
    except FileNotFoundError:
        return False
    named = json.loads(pending.result).get("samples")
    if not named or named.get("sha256") != path.stem:  # a built artifact
        return False
    try:
        uplink.result(pending.attempt_id, with_samples(pending.result, samples))
    except RequestRefused as error:  # by an older controller beside the one that offered it
        log.info("samples of %s are sent apart: %s", pending.attempt_id, error)
        return False
    return True


def _upload(path: Path, uplink: Uplink) -> bool:
    """False: the file is gone, or its content is no longer what its name says."""
    sha256 = path.stem
    try:
        if not path.is_file():  # another result with the same blob was delivered first
            return uplink.has_blob(sha256)
        size = path.stat().st_size
        if size <= SMALL_BYTES:
            uplink.put_blob(sha256, path)
        elif (start := uplink.uploaded(sha256)) is not None:  # else: all is there
            uplink.put_blob(sha256, path, min(start, size - 1))
    except RequestRefused as error:
        log.error("blob %s was refused: %s", sha256, error)
        return False
    return True


def _without_blob(text: str) -> str:
    """The result as failed: its blob was lost on this board."""
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
