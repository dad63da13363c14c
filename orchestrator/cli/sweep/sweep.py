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

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import PlanView

app = typer.Typer(help="Farm-wide sweeps.", no_args_is_help=True)

FAILED_STATUSES = ("failed", "cancelled")
"""Statuses of results of failed trials; cancelled: the agent stopped the last attempt."""

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
) -> None:
    """Submit a sweep and show its progress, then its report. Ctrl-C leaves it running."""
    from orchestrator.domain.spec import read

    require_writable(html)
    _, text = read(file)
    with client(context) as farm:
        view = farm.submit(text, str(file), name, yes_really)
        typer.echo(f"sweep {view.name}: {view.trials} trials in {view.cells - view.skipped} cells")
        if view.skipped:
            typer.echo(f"{view.skipped} cells are skipped; `benchfarm sweep plan` says why")
        if view.builds:
            typer.echo(f"{sum(view.builds.values())} artifacts are built on other devices first")
        if not detach:
            raise typer.Exit(watch_to_end(farm, view.name, html))


def watch_to_end(farm: Client, name: str, html: Path | None = None) -> int:
    """Follow a sweep and print its report.

    Returns the exit code: 0 where every trial ended well, 1 where one failed, 2 where all failures
    were caused by the model or the specification.
    """
    from orchestrator.cli.sweep.watch import follow
    from orchestrator.domain.failure_cause import exit_code
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
    if view.state == "done":
        return 0
    failed = [t.failure for row in report.rows for t in row.trials if t.status in FAILED_STATUSES]
    return exit_code({f.fault for f in failed if f}) if view.state == "failed" else 1


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
def cancel(context: typer.Context, name: str) -> None:
    """Stop a sweep; what was measured stays."""
    with client(context) as farm:
        view = farm.cancel(name)
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
    """Run what is missing of a sweep: its failed and cancelled trials."""
    with client(context) as farm:
        view = farm.resume(name)
        typer.echo(f"{name}: {view.counts.get('pending', 0)} trials to run")
        if not detach:
            raise typer.Exit(watch_to_end(farm, name))
