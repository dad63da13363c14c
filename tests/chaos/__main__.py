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
from farm import needs

DEFAULT_BOARDS = 2


def main(
    seed: int = typer.Option(-1, help="Of the first round; drawn where none is given."),
    minutes: float = typer.Option(30.0, help="New rounds begin for so long; 0: one round."),
    faults: int = typer.Option(60, help="Faults a round."),
    agents: int = typer.Option(8, help="Agents that are processes here."),
    real: int = typer.Option(1, help="Of them, how many measure with the real runner."),
    trials: int = typer.Option(40, help="Trials a board and sweep."),
    lanes: int = typer.Option(3, help="Faults that may last at once."),
    boards: int = typer.Option(
        -1, help="Boards of the nspawn farm that join; 2 where this machine can have them."
    ),
    embedded: bool = typer.Option(False, help="One controller, on SQLite, with its own broker."),
) -> None:
    """Sweeps on a farm of real processes while faults are injected; exits 1 unless all is well.

    Each round has the next seed. The first that is not well ends the run, and a line before the
    last one says how to replay it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the farm's processes are ended, too
    if embedded and boards > 0:
        raise typer.BadParameter("the embedded broker reaches no board: --embedded or --boards")
    why = needs.missing()
    if boards > 0 and why:
        raise typer.BadParameter(why)
    if boards < 0:
        boards = 0 if embedded or why else DEFAULT_BOARDS
        if why and not embedded:
            typer.echo(f"without boards of the nspawn farm: {why}")
    first = seed if seed >= 0 else random.SystemRandom().randrange(1 << 31)
    deadline = time.monotonic() + 60 * minutes
    found: list[Verdict] = []
    while not found or (found[-1].good and time.monotonic() < deadline):
        verdict = run(
            first + len(found), agents=agents, real=real, count=faults, trials=trials, lanes=lanes,
            within_s=300, say=typer.echo, embedded=embedded, hosts=boards,
        )  # fmt: skip
        found.append(verdict)
    if not found[-1].good:
        bad = first + len(found) - 1
        how = f"--faults {faults} --agents {agents} --real {real} --trials {trials} --lanes {lanes}"
        how += " --embedded" if embedded else f" --boards {boards}"
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
