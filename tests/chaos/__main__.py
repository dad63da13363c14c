"""``python -m tests.chaos``: a long run, again and again until the time is up."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.running import run


def main(
    seed: int = typer.Option(-1, help="Replays a run; drawn and printed where none is given."),
    minutes: float = typer.Option(30.0, help="New rounds begin for so long."),
    faults: int = typer.Option(60, help="Faults a round."),
    agents: int = typer.Option(8, help="Boards."),
    real: int = typer.Option(1, help="Of them, how many measure with the real runner."),
    trials: int = typer.Option(40, help="Trials a board and sweep."),
) -> None:
    """Sweeps on a farm of real processes while faults are injected; exits 1 unless all is well."""
    first = seed if seed >= 0 else random.SystemRandom().randrange(1 << 31)
    deadline = time.monotonic() + 60 * minutes
    total = lost = doubled = injected = rounds = 0
    good = True
    while good and (rounds == 0 or (seed < 0 and time.monotonic() < deadline)):
        verdict = run(
            first + rounds, agents=agents, real=real, count=faults, trials=trials, within_s=900,
            note=typer.echo,
        )  # fmt: skip
        good = verdict.good
        total, lost, doubled = (
            total + verdict.trials,
            lost + verdict.lost,
            doubled + verdict.doubled,
        )
        injected, rounds = injected + faults, rounds + 1
    typer.echo(f"trials {total} lost {lost} doubled {doubled} faults {injected} seed {first}")
    raise typer.Exit(0 if good else 1)


if __name__ == "__main__":
    typer.run(main)
