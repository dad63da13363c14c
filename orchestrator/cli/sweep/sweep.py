"""``benchfarm sweep``: plan, run, watch, cancel, resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import (
    OUTPUT_OPTION,
    OutputFormat,
    confirm,
    console,
    duration,
    require_writable,
    show,
    size,
    write,
)
from orchestrator.cli.sweep import waiting_for_boards

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import PlanView

app = typer.Typer(help="Farm-wide sweeps.", no_args_is_help=True)

NAME = typer.Option("", "--name", help="Run under this name instead of the file's.")


@app.command("plan")
def plan(
    context: typer.Context, file: Path, name: str = NAME, output: OutputFormat = OUTPUT_OPTION
) -> None:
    """What a sweep would run and where, what it would skip and why, how long it should take."""
    from orchestrator.domain.spec import read

    _, text = read(file)
    with client(context) as farm:
        plan_view = farm.plan(text, str(file), name)
    show_plan(plan_view, output)


def show_plan(plan_view: PlanView, output: OutputFormat) -> None:
    has_builds = any(c.built for c in plan_view.cells)
    rows = [
        {
            "device": c.device,
            "cell": c.label,
            **({"built by": c.built or "-"} if has_builds else {}),
            "loads": c.format or "-",
            "runtime": c.version or "-",
            "trials": c.trials or "-",
            "each": f"about {duration(c.estimate_s)}" if c.trials else "-",
            "why skipped": c.skip,
        }
        for c in plan_view.cells
    ]
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        show([plan_view], rows, output)
        return
    show(plan_view.cells, rows, output)
    if output is OutputFormat.TABLE:
        skipped = sum(1 for c in plan_view.cells if c.skip)
        typer.echo(
            f"\n{len(plan_view.cells) - skipped} cells to run, {skipped} skipped; "
            f"{plan_view.trials} trials, about {duration(plan_view.estimate_s)}"
        )
        guessed = sum(1 for c in plan_view.cells if c.estimate_from.startswith("a guess"))
        if skipped < len(plan_view.cells):
            typer.echo(
                "The time is an estimate"
                + (
                    f", a guess for {guessed} cells without an earlier trial here"
                    if guessed
                    else ""
                )
                + "; limits.trial_s and limits.convert_s bound a trial and a conversion."
            )
        for note in plan_view.notes:
            typer.echo(f"note: {note}")
        for line in waiting_for_boards.plan_lines(plan_view):
            typer.echo(line)


@app.command("run")
def run(
    context: typer.Context,
    file: Path,
    name: str = NAME,
    detach: bool = typer.Option(False, "--detach", help="Submit and return at once."),
    html: Path | None = typer.Option(None, "--html", help="Write the HTML report there."),
    yes_really: bool = typer.Option(
        False, "--yes-really", help="Also where it has more cells than usual."
    ),
    wait_for: str = typer.Option(
        "", "--wait-for", help="Wait so long until every board is ready: 30min, 12h."
    ),
    strict: bool = typer.Option(
        False, "--strict", help="Submit nothing unless every board is ready, and runs a cell."
    ),
) -> None:
    """Submit a sweep and show its progress, then its report. Ctrl-C leaves it running."""
    from orchestrator.domain.durations import duration as parsed
    from orchestrator.domain.spec import read

    require_writable(html)
    limit_s = parsed(wait_for, "--wait-for").total_seconds() if wait_for else 0.0
    _, text = read(file)
    with client(context) as farm:
        planned = waiting_for_boards.wait(lambda: farm.plan(text, str(file), name), limit_s)
        view = farm.submit(text, str(file), name, yes_really, strict)
        typer.echo(f"sweep {view.name}: {view.trials} trials in {view.cells - view.skipped} cells")
        for line in waiting_for_boards.plan_lines(planned):
            typer.echo(line)
        for note in planned.notes:
            typer.echo(f"note: {note}")
        if view.skipped:
            typer.echo(f"{view.skipped} cells are skipped; `benchfarm sweep plan` says why")
        if view.builds:
            typer.echo(f"{sum(view.builds.values())} artifacts are built on other devices first")
        if not detach:
            raise typer.Exit(watch_to_end(farm, view.name, html))


def watch_to_end(farm: Client, name: str, html: Path | None = None) -> int:
    """Follow a sweep and print its report. Returns the exit code (``exit_codes.of_sweep``)."""
    from orchestrator.cli.sweep import exit_codes
    from orchestrator.cli.sweep.watch import follow
    from orchestrator.report.render.tables import terminal_table

    screen = console()
    try:
        view = follow(farm, name, screen)
    except KeyboardInterrupt:
        screen.print(
            f"\n{name} goes on without you: `benchfarm sweep watch {name}` shows it again, "
            f"`benchfarm sweep cancel {name}` stops it"
        )
        return 0
    report = farm.report(name)
    screen.print(*terminal_table(report), sep="\n")
    if html is not None:
        write(html, farm.report_text(name, "html"))
        screen.print(f"wrote {html}", markup=False)
    for line in exit_codes.lines(view):
        typer.echo(line, err=True)
    return exit_codes.of_sweep(view, report)


@app.command("list")
def list_(context: typer.Context, output: OutputFormat = OUTPUT_OPTION) -> None:
    """All sweeps."""
    from orchestrator.cli.sweep.watch import waiting

    with client(context) as farm:
        found = farm.sweeps()
    rows = [
        {
            "name": s.name,
            "state": s.state,
            "cells": s.cells - s.skipped,
            "skipped": s.skipped,
            "trials": s.trials,
            "progress": ", ".join(f"{n} {state}" for state, n in sorted(s.counts.items())),
            "waits for": waiting(s) if s.state == "running" else "",
            "by": s.owner or "-",
            "created": f"{s.created_at:%Y-%m-%d %H:%M}",
        }
        for s in found
    ]
    show(found, rows, output)


@app.command("watch")
def watch(
    context: typer.Context,
    name: str,
    html: Path | None = typer.Option(None, "--html", help="Write the HTML report there."),
) -> None:
    """Follow a running sweep to its end. Ctrl-C leaves it running."""
    require_writable(html)
    with client(context) as farm:
        raise typer.Exit(watch_to_end(farm, name, html))


@app.command("cancel")
def cancel(
    context: typer.Context,
    name: str,
    cell: str = typer.Option(
        "", "--cell", help="Only this cell: its number or its name, as in the report's CSV."
    ),
    device: str = typer.Option("", "--device", help="Only cells on this device."),
    trial: int = typer.Option(0, "--trial", min=0, help="Only this trial of the cell, from 1."),
) -> None:
    """Stop a sweep, or a part of it; what was measured stays. `sweep resume` runs it after all."""
    from orchestrator.domain.errors import UserError

    if trial and not cell:
        raise UserError("--trial counts the trials of one cell: name the cell with --cell")
    with client(context) as farm:
        before = farm.sweep(name).counts.get("cancelled", 0)
        view = farm.cancel(name, cell=cell, device=device, trial=trial)
    if cell or device:
        count = view.counts.get("cancelled", 0) - before
        typer.echo(f"{name}: {count} trial{'' if count == 1 else 's'} cancelled; {view.state}")
        return
    typer.echo(
        f"{name}: {view.counts.get('done', 0)} of {view.trials} trials were done; {view.state}"
    )


@app.command("delete")
def delete(
    context: typer.Context,
    name: str,
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
) -> None:
    """Forget a sweep and everything that was measured in it, for good."""
    with client(context) as farm:
        found = farm.sweep(name)
        if not yes:
            confirm(f"delete {name}, with {found.trials} trials and their samples?")
        deleted = farm.delete_sweep(name)
    typer.echo(
        f"{name}: {deleted.trials} trials deleted, {deleted.freed_blobs} blobs freed "
        f"({size(deleted.freed_bytes)})"
    )


@app.command("resume")
def resume(
    context: typer.Context,
    name: str,
    detach: bool = typer.Option(False, "--detach", help="Return at once."),
) -> None:
    """Run what is missing of a sweep: its failed and cancelled trials, and the cells that were
    skipped for a reason that has passed."""
    with client(context) as farm:
        before = farm.sweep(name)
        view = farm.resume(name)
        pending = view.counts.get("pending", 0)
        typer.echo(f"{name}: {pending} trial{'' if pending == 1 else 's'} to run")
        if view.skipped < before.skipped:
            typer.echo(f"{before.skipped - view.skipped} cells run that were skipped before")
        for device, why in view.left_out.items():
            typer.echo(f"left out: {device}: {why}")
        if view.state != "running" and view.left_out and not pending:
            typer.echo("nothing was resumed: every board that is left out still is", err=True)
            raise typer.Exit(1)
        if not detach:
            raise typer.Exit(watch_to_end(farm, name))
