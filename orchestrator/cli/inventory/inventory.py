"""``benchfarm inventory apply|diff``: the whole fleet, as one file says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from orchestrator.cli.context import CliContext
from orchestrator.cli.output import OUTPUT_OPTION, SELECTOR_OPTION, OutputFormat, show

if TYPE_CHECKING:
    from orchestrator.cli.inventory.progress import FleetProgress
    from orchestrator.client import Client
    from orchestrator.provisioning.board import BoardOutcome, FarmAccess, Reporter
    from orchestrator.provisioning.diff import Difference
    from orchestrator.provisioning.fleet_file import Fleet
    from orchestrator.provisioning.parallel import JobOutcome

T = TypeVar("T")

app = typer.Typer(help="The fleet, as one YAML file says it.", no_args_is_help=True)

FILE = typer.Argument(help="The farm's YAML file; docs/inventory.md describes it.")
PARALLEL = typer.Option(8, min=1, max=256, help="How many boards at a time.")
ASK_PASSWORD = typer.Option(
    False, "--ask-password", help="Ask for one password for all logins, which sudo is given too."
)


@app.command("apply")
def apply(
    context: typer.Context,
    file: Path = FILE,
    selector: list[str] = SELECTOR_OPTION,
    parallel: int = PARALLEL,
    ask_password: bool = ASK_PASSWORD,
    prune: bool = typer.Option(
        False, "--prune", help="Retire boards that have joined and that the file does not name."
    ),
    yes: bool = typer.Option(False, "--yes", help="Do not ask before --prune retires boards."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would change, change nothing."),
) -> None:
    """Bring every board to what the file says. Run again, it carries on where it ended."""
    from orchestrator.cli.inventory.progress import FleetProgress
    from orchestrator.domain.errors import UserError
    from orchestrator.provisioning import board
    from orchestrator.provisioning.fleet_file import load

    fleet = load(file, selector)
    if prune and not fleet.whole:
        raise UserError("--prune goes by the whole file: leave -l away")
    options: CliContext = context.obj
    with options.client() as client:
        farm = _access(options, client, fleet, ask_password)
        farm.controller.require_reachable()
        gone = _extra(client, fleet) if fleet.whole else []
        if gone and prune and not dry_run:
            _confirm_retiring(gone, yes)
        progress = FleetProgress(dry_run)
        ended: dict[str, JobOutcome[BoardOutcome]] = {}
        if prune and not dry_run:
            jobs = {name: partial(board.retire, farm, name) for name in gone}
            ended |= _run(jobs, parallel, progress)
        if not any(e.stopped for e in ended.values()):
            applies = {b.name: partial(board.apply, farm, b, dry_run=dry_run) for b in fleet.boards}
            ended |= _run(applies, parallel, progress)
    progress.summary(ended)
    if gone and (dry_run or not prune):
        would = "would be retired" if prune else "--prune retires them"
        typer.echo(f"not in {file}: {', '.join(gone)} ({would})")
    if any(e.stopped for e in ended.values()):
        typer.echo("stopped; the same command carries on")
        raise typer.Exit(130)
    raise typer.Exit(1 if any(e.error for e in ended.values()) else 0)


@app.command("diff")
def diff(
    context: typer.Context,
    file: Path = FILE,
    output: OutputFormat = OUTPUT_OPTION,
    selector: list[str] = SELECTOR_OPTION,
    parallel: int = PARALLEL,
    ask_password: bool = ASK_PASSWORD,
) -> None:
    """Show what differs from the file, and change nothing. Exit 0: nothing does; 1: something."""
    from orchestrator.cli.inventory.progress import FleetProgress
    from orchestrator.provisioning import board
    from orchestrator.provisioning.diff import Difference
    from orchestrator.provisioning.fleet_file import load

    fleet = load(file, selector)
    options: CliContext = context.obj
    with options.client() as client:
        farm = _access(options, client, fleet, ask_password)
        gone = _extra(client, fleet) if fleet.whole else []
        progress = FleetProgress(True, quiet=True)
        checks = {b.name: partial(board.find_differences, farm, b) for b in fleet.boards}
        ended = _run(checks, parallel, progress)
    if any(e.stopped for e in ended.values()):
        raise typer.Exit(130)
    found: list[Difference] = [d for e in ended.values() for d in e.value or ()]
    found += [
        Difference(device=name, what="registered", found="yes", wanted="not in the file")
        for name in gone
    ]
    if found or output is not OutputFormat.TABLE:
        rows = [
            {"device": d.device, "what": d.what, "found": d.found, "file says": d.wanted}
            for d in found
        ]
        show(found, rows, output)
    failed = any(e.error for e in ended.values())
    if not found and not failed and output is OutputFormat.TABLE:
        typer.echo(f"no drift: {len(fleet.boards)} boards are as {file} says")
    raise typer.Exit(1 if found or failed else 0)


def _access(options: CliContext, client: Client, fleet: Fleet, ask_password: bool) -> FarmAccess:
    from orchestrator.provisioning.board import FarmAccess
    from orchestrator.provisioning.boards import RemoteController

    controller = RemoteController(client, fleet.controller_url)
    password = typer.prompt("password of the boards", hide_input=True) if ask_password else ""
    return FarmAccess(options.settings().home, client, controller, password)


def _extra(client: Client, fleet: Fleet) -> list[str]:
    from orchestrator.provisioning.diff import extra

    return [view.name for view in extra(client.devices(), fleet.named)]


def _confirm_retiring(gone: list[str], yes: bool) -> None:
    """Raises ``UserError`` without ``--yes`` if there is no terminal to ask on."""
    import sys

    from orchestrator.domain.errors import UserError

    typer.echo(f"these boards are not in the file and will be retired: {', '.join(gone)}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nobody can be asked whether to retire them: say --yes")
    typer.confirm("retire them?", abort=True)


def _run(
    jobs: Mapping[str, Callable[[Reporter], T]], parallel: int, progress: FleetProgress
) -> dict[str, JobOutcome[T]]:
    from orchestrator.provisioning.parallel import run_parallel

    with progress.showing(list(jobs)):
        return run_parallel(jobs, parallel, progress.on_report, progress.on_tick, progress.on_stop)
