"""``python -m tests.chaos``: rounds of faults on a farm of agent processes until the time is up;
``python -m tests.chaos storm``: faults on a large farm of simulated boards."""

from __future__ import annotations

import random
import signal
import statistics
import sys
import time
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import outcome as outcomes
from chaos.running import run
from chaos.storm import StormOptions, StormRun, run_storm
from chaos.verdict import Verdict, result_line
from farm import needs

DEFAULT_BOARDS = 2
SEED = typer.Option(-1, help="Seed of the (first) schedule; random where none is given.")

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    seed: int = SEED,
    minutes: float = typer.Option(30.0, help="How long new rounds begin; 0: one round."),
    faults: int = typer.Option(60, help="Faults per round."),
    agents: int = typer.Option(8, help="Agent processes."),
    real: int = typer.Option(1, help="How many of them use the real runner."),
    trials: int = typer.Option(40, help="Trials per board and sweep."),
    lanes: int = typer.Option(3, help="Faults that may last at once."),
    boards: int = typer.Option(
        -1, help="Boards of the nspawn farm; 2 where this machine can run them."
    ),
    embedded: bool = typer.Option(False, help="One controller, on SQLite, with its own broker."),
) -> None:
    """Inject faults into a farm of agent processes while sweeps run; exits 1 unless all is well.

    Each round has the next seed. The first round that fails ends the run; the line before the last
    one replays it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the farm is ended, too
    if context.invoked_subcommand:
        return
    if embedded and boards > 0:
        raise typer.BadParameter("the embedded broker reaches no board: --embedded or --boards")
    why = needs.missing()
    if boards > 0 and why:
        raise typer.BadParameter(why)
    if boards < 0:
        boards = 0 if embedded or why else DEFAULT_BOARDS
        if why and not embedded:
            typer.echo(f"without boards of the nspawn farm: {why}")
    first = _seed(seed)
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
    total = sum(v.trials for v in found)
    lost, doubled = sum(v.lost for v in found), sum(v.doubled for v in found)
    typer.echo(result_line(total, lost, doubled, faults * len(found), first))
    raise typer.Exit(0 if found[-1].good else 1)


@app.command()
def storm(
    boards: int = typer.Option(40, help="Simulated boards."),
    trials: int = typer.Option(2000, help="Trials of all sweeps together."),
    seed: int = SEED,
    sweeps: int = typer.Option(2, help="Sweeps that share the trials."),
    trial_s: float = typer.Option(0.0, help="Seconds that a trial takes."),
    every_s: float = typer.Option(10.0, help="Mean seconds between two faults."),
    longest_s: float = typer.Option(4 * 3600.0, help="How long faults are injected at most."),
    keep: bool = typer.Option(False, "--keep", help="Append the outcome to benchmarks/results."),
) -> None:
    """Inject faults into a farm of many simulated boards until every trial is final; exits 1 unless
    all is well."""
    options = StormOptions(_seed(seed), boards, trials, sweeps, trial_s, every_s, longest_s)
    done = run_storm(options, typer.echo)
    outcome = _storm_outcome(done)
    if keep:
        outcomes.keep(outcome)
    else:
        typer.echo(outcome.line)
    typer.echo(done.verdict.line(done.injected.total(), options.seed))
    raise typer.Exit(0 if done.verdict.good else 1)


def _storm_outcome(done: StormRun) -> outcomes.Outcome:
    """Lost and doubled trials over all trials; any other violation counts as one more."""
    verdict = done.verdict
    bad = verdict.lost + verdict.doubled + bool(verdict.wrong)
    rss = [mib for _, mib in done.rss_mib]
    return outcomes.of_rounds(
        "scale_storm", [bad / verdict.trials], at_most=0.0,
        compared=f"lost and doubled over {verdict.trials} trials on {done.options.boards} boards, "
        f"{done.injected.total()} faults of {len(done.injected)} kinds, seed {done.options.seed}; "
        f"{verdict.trials / done.wall_s:.0f}/s, {verdict.attempts} attempts, controller's memory "
        f"{statistics.median(rss):.0f} MiB, {max(rss):.0f} at most",
    )  # fmt: skip


def _seed(given: int) -> int:
    return given if given >= 0 else random.SystemRandom().randrange(1 << 31)


if __name__ == "__main__":
    app()
