"""Kinds of events in the log, each with what it records."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.domain.errors import UserError
from orchestrator.domain.yaml_file import near

EVENT_KINDS = {
    "artifact_added": "a model got a file of another format",
    "attempt_lost": "the lease of an attempt ran out",
    "cell_given_up": "a cell's first trials failed, and the others are not run",
    "clock_jumped": "the controller's clock jumped",
    "device_added": "a device got its first join token, or one after it was retired",
    "device_classified": "a device's class was set",
    "device_drained": "a device gets no more work; with the note of who drained it",
    "device_enabled": "a device gets work again",
    "device_joined": "a board enrolled",
    "device_maintenance": "a device went into maintenance, or out of it",
    "device_offline": "a device's heartbeats stopped",
    "device_online": "a device's heartbeats began, or came back",
    "device_quarantined": "a device failed two health checks in a row",
    "device_renamed": "a device got another name",
    "device_restored": "a device in quarantine passed a health check",
    "device_retired": "a device left the farm",
    "device_rotated": "a device's secrets were replaced",
    "device_tagged": "a device's tags were changed",
    "events_pruned": "old events were deleted",
    "health_check_failed": "a device failed one health check",
    "model_added": "a model was registered",
    "model_removed": "a model was removed",
    "samples_pruned": "a sweep's raw samples were deleted",
    "sweep_cancelled": "a sweep was cancelled",
    "sweep_deleted": "a sweep was deleted",
    "sweep_finished": "a sweep's last trial ended",
    "sweep_resumed": "a sweep's missing trials were made pending again",
    "sweep_submitted": "a sweep was submitted",
    "token_created": "a person got a token",
    "token_revoked": "a person's token was revoked",
    "trial_ended": "a trial ended",
    "trials_cancelled": "a part of a sweep was cancelled",
}


def require(kind: str, recorded: Collection[str]) -> None:
    """Raise ``UserError`` for a kind that there is not. ``recorded``: the kinds that the log has,
    which may be those of another version."""
    known = sorted({*EVENT_KINDS, *recorded})
    if kind not in known:
        raise UserError(f"--kind {kind!r}{near(kind, known)}: expected one of {', '.join(known)}")
