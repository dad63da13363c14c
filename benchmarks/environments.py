"""What building the demo's runtime environments costs from a warm package cache."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.outcome import Outcome, of_rounds
from orchestrator.cli.demo import RUNTIMES
from orchestrator.local.setup import build_runtimes

ROUNDS = 3
ALLOWED_S = 60.0


def measure() -> list[Outcome]:
    costs: list[str] = []
    _built_s(costs)  # fills the cache: downloads are not what is measured
    seconds = [_built_s(costs) for _ in range(ROUNDS)]
    last = "; ".join(costs[-len(RUNTIMES) :])
    return [
        of_rounds(
            "environments",
            [s / ALLOWED_S for s in seconds],
            at_most=1.0,
            compared=f"s for {len(RUNTIMES)} environments over {ALLOWED_S:.0f} s, warm package "
            f"cache, each built whole and probed; {last}",
        )
    ]


def _built_s(costs: list[str]) -> float:
    """Seconds for all of them, in a folder that has none."""
    with tempfile.TemporaryDirectory(prefix="benchfarm-environments-") as folder:
        start = time.perf_counter()
        build_runtimes(Path(folder), RUNTIMES, costs.append)
        spent = time.perf_counter() - start
    costs[:] = [line for line in costs if " built " in line]
    return spent
