"""How long ``benchfarm --help`` takes, against the half second it may take."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.outcome import Outcome, of_rounds

ROUNDS = 15
ALLOWED_S = 0.5


def measure() -> list[Outcome]:
    program = shutil.which("benchfarm", path=str(Path(sys.executable).parent))
    if program is None:
        raise SystemExit("benchfarm is not installed beside this interpreter: pip install -e .")
    help_s, bare_s = [], []
    for _ in range(ROUNDS):
        help_s.append(_seconds([program, "--help"]))
        bare_s.append(_seconds([sys.executable, "-c", "pass"]))
    bare_ms = 1e3 * statistics.median(bare_s)
    return [
        of_rounds(
            "cli_help",
            [s / ALLOWED_S for s in help_s],
            at_most=1.0,
            compared=f"benchfarm --help over {ALLOWED_S} s; bare Python took {bare_ms:.0f} ms",
        )
    ]


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
