"""Which fault comes when on a large farm: drawn from a seed, before anything runs."""

from __future__ import annotations

import random
from dataclasses import dataclass

STEPS = {
    "start": ("POST", "/start"),
    "heartbeat": ("PUT", "/heartbeat"),
    "blob": ("PUT", "/blobs/"),
    "result": ("PUT", "/result"),
}
"""A request of each step of the uplink: its method, and what is in its path."""

OF_SERVERS = (
    "kill_controller", "freeze_controller", "freeze_controller_past_lease",
    "kill_postgres", "kill_postgres_backend", "freeze_postgres",
    "kill_redis", "freeze_redis", "freeze_redis_past_lease", "flush_redis", "cancel_and_resume",
)  # fmt: skip
OF_BOARDS = (
    "uplink_cut", "uplink_half", "uplink_stalled",
    *(f"uplink_{what}_{step}" for what in ("lost", "unanswered") for step in STEPS),
    "queue_cut", "doorbell_lost", "ring_again", "ring_strangers", "poison",
    "power_cut", "power_cut_started", "power_cut_measured", "power_cut_kept", "freeze_boards",
    "give_again", "forge",
)  # fmt: skip
"""What the played boards do to themselves. ``power_cut_…``: a board loses its power as it has just
``started`` an attempt, ``measured`` it and not written it down, or ``kept`` it in its outbox."""
LENGTHS_S = (0.3, 1.0, 3.0, 8.0)
SHARES = (0.05, 0.2, 0.5, 1.0)
"""Of the boards that a fault meets."""


@dataclass(frozen=True)
class Fault:
    """``after_s`` the one before began; ``lasts_s`` where it lasts; ``draw`` chooses whom it meets,
    a ``share`` of them."""

    kind: str
    after_s: float
    lasts_s: float
    share: float
    draw: int

    def __str__(self) -> str:
        return (
            f"+{self.after_s:.1f} s {self.kind} for {self.lasts_s:.1f} s, "
            f"share {self.share:g} ({self.draw})"
        )


def plan(seed: int, count: int, every_s: float) -> list[Fault]:
    """``count`` faults, one each ``every_s`` seconds or so; the same for the same seed. Every kind
    comes once before any comes again."""
    random_ = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < count:
        more = [*OF_SERVERS, *OF_BOARDS]
        random_.shuffle(more)
        kinds += more
    return [
        Fault(
            kind,
            round(every_s * random_.uniform(0.5, 1.5), 2),
            random_.choice(LENGTHS_S),
            random_.choice(SHARES),
            random_.randrange(1 << 16),
        )
        for kind in kinds[:count]
    ]
