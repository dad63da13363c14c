"""Rate limits per address: enrolments, and requests with a wrong token."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from orchestrator.domain.errors import TooOften

MAX_REMEMBERED_TOKENS = 10_000
"""Tokens that were valid recently are not limited by their address: boards behind one router share
it."""


class RateLimiter:
    """Counts in this process only: several controllers together allow several times as much."""

    def __init__(self, enrolments_per_minute: int, failures_per_minute: int) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._enrolments = RateLimitItemPerMinute(enrolments_per_minute)
        self._failures = RateLimitItemPerMinute(failures_per_minute)
        self._valid: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()

    def enrolment(self, request: Request) -> None:
        """Count an enrolment. Raises ``TooOften``."""
        if not self._limiter.hit(self._enrolments, "enrol", _address(request)):
            raise TooOften(f"more than {self._enrolments.amount} enrolments a minute; try again")

    def require_trusted(self, request: Request, digest: str) -> None:
        """Raises ``TooOften`` where this address has failed too often, unless the token with this
        digest was valid recently."""
        if self._limiter.test(self._failures, "failed", _address(request)):
            return
        with self._lock:
            if digest in self._valid:
                return
        raise TooOften(f"more than {self._failures.amount} wrong tokens a minute; wait, try again")

    def failed(self, request: Request, digest: str) -> None:
        with self._lock:
            self._valid.pop(digest, None)
        self._limiter.hit(self._failures, "failed", _address(request))

    def succeeded(self, digest: str) -> None:
        with self._lock:
            self._valid[digest] = None
            self._valid.move_to_end(digest)
            if len(self._valid) > MAX_REMEMBERED_TOKENS:
                self._valid.popitem(last=False)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
