"""How long a trial waits before it is tried again. Pure."""

from __future__ import annotations

import hashlib
from datetime import timedelta

FIRST_S = 2.0
LONGEST_S = 300.0


def pause(spent: int, attempt_id: str) -> timedelta:
    """The wait after the ``spent``-th attempt failed by chance or was lost: it doubles up to
    ``LONGEST_S``, and is drawn from its upper half, so that trials which failed together (a switch
    was off) are not tried again together.

    Args:
        attempt_id: what is drawn depends on it alone: asked again, the answer is the same.
    """
    longest_s = min(LONGEST_S, FIRST_S * 2.0 ** min(spent - 1, 30))
    drawn = int.from_bytes(hashlib.sha256(attempt_id.encode()).digest()[:4], "big") / 2**32
    return timedelta(seconds=longest_s * (1.0 + drawn) / 2.0)
