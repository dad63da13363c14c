"""``benchfarm-agent run`` with a clock that jumps by the seconds in the state folder's CLOCK_FILE.

Arguments: the state folder, and a script to run in place of the runner."""

from __future__ import annotations

import sys
import time
from pathlib import Path

CLOCK_FILE = "clock_offset_s"


def skew(offset_file: Path) -> None:
    """Add the file's number to the wall clock, as soon and as long as the file is there."""
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
    # imported after the clock is patched: the outbox binds ``time.time`` when it is imported
    from agent.worker import config, daemon
    from agent.worker.isolation.runner_client import RUNNER

    runner = Path(sys.argv[2]) if len(sys.argv) > 2 else RUNNER
    daemon.run(config.load(state), runner=runner)


if __name__ == "__main__":
    main()
