"""``benchfarm-agent run`` with a clock that jumps: ``clock_offset_s`` in the state folder says how
far. Argument 2, if any, is the child that plays the runner."""

from __future__ import annotations

import sys
import time
from pathlib import Path


def skew(offset_file: Path) -> None:
    """Put ``time.time`` off by what the file says, from whenever it says so."""
    real = time.time

    def skewed() -> float:
        try:
            return real() + float(offset_file.read_text())
        except (OSError, ValueError):
            return real()

    time.time = skewed


def main() -> None:
    state = Path(sys.argv[1])
    skew(state / "clock_offset_s")
    # only now: the outbox takes ``time.time`` as its clock when it is imported
    from agent.worker import process, settings
    from agent.worker.runner import RUNNER

    runner = Path(sys.argv[2]) if len(sys.argv) > 2 else RUNNER
    process.run(settings.load(state), runner=runner)


if __name__ == "__main__":
    main()
