"""``benchfarm-agent run`` with a clock that jumps: CLOCK_FILE in the state folder says how far, in
seconds. Argument 2, if any, is the child that plays the runner."""

from __future__ import annotations

import sys
import time
from pathlib import Path

CLOCK_FILE = "clock_offset_s"


def skew(offset_file: Path) -> None:
    """Put the wall clock off by what the file says, from whenever it says so."""
    real = time.time

    def skewed() -> float:
        try:
            return real() + float(offset_file.read_text())
        except (OSError, ValueError):
            return real()

    time.time = skewed
    time.time_ns = lambda: int(skewed() * 1e9)


def main() -> None:
    state = Path(sys.argv[1])
    skew(state / CLOCK_FILE)
    # only now: the outbox takes ``time.time`` as its clock when it is imported
    from agent.worker import config, daemon
    from agent.worker.isolation.runner_client import RUNNER

    runner = Path(sys.argv[2]) if len(sys.argv) > 2 else RUNNER
    daemon.run(config.load(state), runner=runner)


if __name__ == "__main__":
    main()
