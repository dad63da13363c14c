"""What a child had measured before it was ended."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from agent.contract import codec
from agent.contract.child_jobs import SO_FAR
from agent.contract.failures import FAILURE_KINDS
from agent.contract.trial import Failure, TrialResult

log = logging.getLogger(__name__)


def measured_before(folder: Path, failure: Failure) -> TrialResult | None:
    """The result of a child that had taken its samples before ``failure`` ended it; ``None`` where
    it had not.

    A time limit that ran out in the second load, the last step, costs that load's figure alone.
    """
    try:
        kept = codec.loads(TrialResult, (folder / SO_FAR).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, codec.ContractError) as error:
        log.warning("what the child had measured cannot be read: %s", error)
        return None
    if failure.kind == "timeout" and failure.stage == "load":
        log.info("no second load: %s", failure.message)
        return kept
    status = FAILURE_KINDS[failure.kind].status
    return replace(kept, status=status, failure=failure) if status == "failed" else None
