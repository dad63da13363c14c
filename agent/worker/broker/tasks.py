"""The Celery task that a doorbell calls, and which attempt ids it accepts."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from celery import Celery

from agent.broker import TASK

log = logging.getLogger(__name__)

_ATTEMPT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}")


def register(app: Celery, handle: Callable[[str], None]) -> None:
    """Register the task on ``app``. It calls ``handle(attempt_id)``; a call without a valid id is
    dropped."""

    # Not shared: Celery would add it to every other application of this process as well.
    @app.task(name=TASK, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
    def run_attempt(*args: Any, **kwargs: Any) -> None:
        attempt_id = parse_doorbell(args, kwargs)
        if attempt_id is not None:
            handle(attempt_id)


def parse_doorbell(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The attempt's id, fit for a URL and a folder's name; ``None`` for anything else."""
    attempt_id = kwargs.get("attempt_id") if not args and len(kwargs) == 1 else None
    if isinstance(attempt_id, str) and _ATTEMPT_ID.fullmatch(attempt_id):
        return attempt_id
    log.warning("dropped a malformed doorbell: %.200r %.200r", args, kwargs)
    return None
