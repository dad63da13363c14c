"""The fault schedule: which fault is injected when, drawn from a seed before anything runs."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SEED = "BENCHFARM_CHAOS_SEED"
"""Environment variable: the seed that a failed run of a test printed."""

STEPS = {
    "start": ("POST", "/start"),
    "heartbeat": ("PUT", "/heartbeat"),
    "blob": ("PUT", "/blobs/"),
    "result": ("PUT", "/result"),
}
"""The requests that an agent sends to the controller: method, and a part of the path."""
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
"""Kind of fault → its weight, for a farm of agent processes."""
HOST_FAULTS: dict[str, int] = {
    "host_power_cut": 3, "host_reboot": 1, "host_unplug": 2, "host_kill_agent": 2,
    "host_freeze": 2, "host_disk_full": 1,
}  # fmt: skip
"""Added where boards of the nspawn farm take part."""
_EXTERNAL_SERVERS = ("kill_postgres", "kill_redis", "freeze_redis", "database_clock_jump")
EMBEDDED_FAULTS: dict[str, int] = {
    kind: weight for kind, weight in FAULTS.items()
    if kind not in _EXTERNAL_SERVERS and not kind.startswith("broker_")
}  # fmt: skip
"""For the embedded farm: SQLite, and a broker that is the controller's child process."""
SIMULATED_BOARD_FAULTS: dict[str, int] = dict.fromkeys(
    (
        "uplink_cut", "uplink_half", "uplink_stalled",
        *(f"uplink_{what}_{step}" for what in ("lost", "unanswered") for step in STEPS),
        "queue_cut", "doorbell_lost", "freeze_boards",
        "power_cut", "power_cut_started", "power_cut_measured", "power_cut_kept",
    ),
    1,
)  # fmt: skip
"""Faults that simulated boards inject into themselves. ``power_cut_…``: a board loses its power
when it has just ``started`` an attempt, ``measured`` it but not stored the result, or ``kept`` the
result in its outbox."""
STORM_FAULTS: dict[str, int] = SIMULATED_BOARD_FAULTS | dict.fromkeys(
    (
        "kill_controller", "freeze_controller", "freeze_controller_past_lease",
        "kill_postgres", "kill_postgres_backend", "freeze_postgres",
        "kill_redis", "freeze_redis", "freeze_redis_past_lease", "flush_redis",
        "cancel_and_resume", "ring_again", "ring_strangers", "poison", "give_again", "forge",
    ),
    1,
)  # fmt: skip
"""For a farm of simulated boards."""
SHARES = (0.05, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Fault:
    """One fault. ``after_s``: pause after the previous fault of the same lane; ``lasts_s``: how
    long it lasts, for kinds that last; ``draw``: a random number that selects its targets;
    ``share``: the share of the boards that it hits, for kinds that hit several."""

    kind: str
    after_s: float
    lasts_s: float
    draw: int
    share: float = 1.0

    def __str__(self) -> str:
        return (
            f"+{self.after_s:.1f} s {self.kind} for {self.lasts_s:.1f} s "
            f"({self.draw}, share {self.share:g})"
        )


def plan(
    seed: int,
    count: int,
    weights: Mapping[str, int] = FAULTS,
    after_s: tuple[float, float] = (0.1, 1.5),
    lasts_s: Sequence[float] = (0.3, 1.0, 2.0, 6.0),
) -> list[Fault]:
    """``count`` faults; the same for the same arguments. Every kind comes once before any kind is
    drawn by its weight. ``after_s``: the range of the pauses; ``lasts_s``: the durations."""
    random_ = random.Random(seed)
    kinds = list(weights)
    random_.shuffle(kinds)
    extra = max(0, count - len(kinds))
    kinds += random_.choices(list(weights), weights=list(weights.values()), k=extra)
    return [
        Fault(
            kind,
            round(random_.uniform(*after_s), 2),
            random_.choice(lasts_s),
            random_.randrange(1 << 16),
            random_.choice(SHARES),
        )
        for kind in kinds[:count]
    ]


def first_seed() -> int:
    """The seed in the environment, else a random one."""
    return int(os.environ.get(SEED, "") or random.SystemRandom().randrange(1 << 31))
