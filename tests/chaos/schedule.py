"""Which fault comes when: drawn from a seed, before anything runs."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass

from .proxy import STEPS

SEED = "BENCHFARM_CHAOS_SEED"
"""Environment variable: the seed that a failed run of a test printed."""

FAULTS: dict[str, int] = {
    "kill_agent": 3, "kill_child": 4, "freeze_agent": 2, "end_agent": 2,
    "kill_controller": 3, "freeze_controller": 1, "kill_postgres": 2,
    "kill_redis": 2, "freeze_redis": 1, "flush_redis": 2,
    "uplink_cut": 1, "uplink_silent": 1, "uplink_slow": 1, "uplink_no_answers": 2,
    "uplink_half": 2,
    **{f"uplink_{what}_{step}": 1 for what in ("lost", "unanswered") for step in STEPS},
    "broker_cut": 1, "broker_silent": 1, "broker_slow": 1, "broker_half": 1,
    "ring_again": 2, "ring_strangers": 2, "poison": 1, "give_again": 2, "forge": 2,
    "clock_jump": 2, "disk_full": 1, "cancel_and_resume": 1,
    "controller_clock_jump": 2, "database_clock_jump": 2,
}  # fmt: skip
"""Fault → its weight. Every kind comes once before any comes by weight."""
HOST_FAULTS: dict[str, int] = {
    "host_power_cut": 3, "host_reboot": 1, "host_unplug": 2, "host_kill_agent": 2,
    "host_freeze": 2, "host_disk_full": 1,
}  # fmt: skip
"""Where there are boards of the nspawn farm."""
_SERVERS = ("kill_postgres", "kill_redis", "freeze_redis", "database_clock_jump")
EMBEDDED_FAULTS: dict[str, int] = {
    kind: weight for kind, weight in FAULTS.items()
    if kind not in _SERVERS and not kind.startswith("broker_")
}  # fmt: skip
"""Where the database is a file, and the broker the controller's own child."""


@dataclass(frozen=True)
class Fault:
    """``after_s`` the one before; ``lasts_s`` where it lasts; ``draw`` chooses whom it meets."""

    kind: str
    after_s: float
    lasts_s: float
    draw: int

    def __str__(self) -> str:
        return f"+{self.after_s:.1f} s {self.kind} for {self.lasts_s:.1f} s ({self.draw})"


def plan(seed: int, count: int, of: Mapping[str, int] = FAULTS) -> list[Fault]:
    """``count`` faults; the same for the same seed."""
    random_ = random.Random(seed)
    kinds = list(of)
    random_.shuffle(kinds)
    more = random_.choices(list(of), weights=list(of.values()), k=max(0, count - len(kinds)))
    return [
        Fault(
            kind,
            round(random_.uniform(0.1, 1.5), 2),
            random_.choice((0.3, 1.0, 2.0, 6.0)),
            random_.randrange(1 << 16),
        )
        for kind in (kinds + more)[:count]
    ]


def first_seed() -> int:
    """That of the environment, else a new one."""
    return int(os.environ.get(SEED, "") or random.SystemRandom().randrange(1 << 31))
