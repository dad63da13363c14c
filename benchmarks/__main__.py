"""``python -m benchmarks [NAME …]``: run the benchmarks; exit 1 if a goal is missed."""

from __future__ import annotations

import importlib
import sys

from benchmarks.outcome import Outcome, keep

MODULES = (
    "cli_help",
    "timing_loop",
    "bare_runtimes",
    "engine_cache",
    "trial_overhead",
    "environments",
    "registering",
    "scale",
)


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(MODULES))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(MODULES)}")
        return 2
    outcomes: list[Outcome] = []
    for name in names or MODULES:
        found = importlib.import_module(f"benchmarks.{name}").measure()
        for outcome in found:
            keep(outcome)
        outcomes += found
    return 0 if all(outcome.met for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
