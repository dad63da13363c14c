"""``python -m tests.chaos``: a long run, round after round until the time is up."""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.running import run
from chaos.verdict import Verdict


def main(
    seed: int = typer.Option(-1, help="Of the first round; drawn where none is given."),
    minutes: float = typer.Option(30.0, help="New rounds begin for so long; 0: one round."),
    faults: int = typer.Option(60, help="Faults a round."),
    agents: int = typer.Option(8, help="Boards."),
    real: int = typer.Option(1, help="Of them, how many measure with the real runner."),
    trials: int = typer.Option(40, help="Trials a board and sweep."),
    lanes: int = typer.Option(3, help="Faults that may last at once."),
) -> None:
    """Sweeps on a farm of real processes while faults are injected; exits 1 unless all is well.

    Each round has the next seed. The first that is not well ends the run, and a line before the
    last one says how to replay it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the farm's processes are ended, too
    first = seed if seed >= 0 else random.SystemRandom().randrange(1 << 31)
    deadline = time.monotonic() + 60 * minutes
    found: list[Verdict] = []
    while not found or (found[-1].good and time.monotonic() < deadline):
        verdict = run(
            first + len(found), agents=agents, real=real, count=faults, trials=trials, lanes=lanes,
            within_s=300, say=typer.echo,
        )  # fmt: skip
        found.append(verdict)
    if not found[-1].good:
        bad = first + len(found) - 1
        how = f"--faults {faults} --agents {agents} --real {real} --trials {trials} --lanes {lanes}"
        typer.echo(f"replay: python -m tests.chaos --seed {bad} --minutes 0 {how}")
    total, lost, doubled = (
        sum(v.trials for v in found), sum(v.lost for v in found), sum(v.doubled for v in found)
    )  # fmt: skip
    typer.echo(
        f"trials {total} lost {lost} doubled {doubled} faults {faults * len(found)} seed {first}"
    )
    raise typer.Exit(0 if found[-1].good else 1)


if __name__ == "__main__":
    typer.run(main)
