"""Back-off before a trial is retried. Pure."""

from __future__ import annotations

import hashlib
from datetime import timedelta

FIRST_S = 2.0
LONGEST_S = 300.0


def pause(spent: int, attempt_id: str) -> timedelta:
    """The wait after the ``spent``-th attempt had a transient failure or was lost: exponential
    back-off up to ``LONGEST_S`` with jitter over its upper half, so that trials which failed
    together (a network switch was off) are not retried together.

    Args:
        attempt_id: seeds the jitter, so that repeated calls give the same value.
    """
    longest_s = min(LONGEST_S, FIRST_S * 2.0 ** min(spent - 1, 30))
    jitter = int.from_bytes(hashlib.sha256(attempt_id.encode()).digest()[:4], "big") / 2**32
    return timedelta(seconds=longest_s * (1.0 + jitter) / 2.0)
