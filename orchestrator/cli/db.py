"""``benchfarm db``: backup, restore, check, prune; on the controller's own machine."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext
from orchestrator.cli.output import size

if TYPE_CHECKING:
    from orchestrator.service.sweeps.retention import Pruned, Pruning

app = typer.Typer(help="The farm's data: backup, restore, check, prune.", no_args_is_help=True)


@app.command("backup")
def backup(
    context: typer.Context,
    file: Path,
    without_blobs: bool = typer.Option(
        False, "--without-blobs", help="The tables only: no models, no samples."
    ),
    force: bool = typer.Option(False, "--force", help="Overwrite FILE if it is there."),
) -> None:
    """Write the whole farm into one file, while it runs."""
    from agent import __version__
    from orchestrator.farm_store import opened_store
    from orchestrator.store.backup import backup as backups

    options: CliContext = context.obj
    settings = options.settings()
    with opened_store(settings) as (database, blobs):
        written = backups.backup(
            database,
            blobs,
            file.absolute(),
            version=__version__,
            at=datetime.now(UTC),
            with_blobs=not without_blobs,
            overwrite=force,
            boards=settings.home / "boards",
        )
    rows = sum(written.manifest.rows.values())
    typer.echo(
        f"wrote {file}: {rows} rows, {written.manifest.blobs} blobs, {size(written.size_bytes)}"
    )
    if written.manifest.boards:
        typer.echo(
            f"with the SSH addresses of {', '.join(written.manifest.boards)}; no private key"
        )
    for sha256 in written.manifest.missing:
        typer.echo(f"blob {sha256} is missing or damaged here, and not in the backup", err=True)
    if written.manifest.missing:
        raise typer.Exit(1)


@app.command("restore")
def restore(
    context: typer.Context,
    file: Path,
    force: bool = typer.Option(
        False, "--force", help="Where there is a farm: move it aside, and restore."
    ),
) -> None:
    """Make a farm from a backup, on SQLite or PostgreSQL, whichever it was made on."""
    from orchestrator.farm_store import opened_store
    from orchestrator.home import exclusive_home
    from orchestrator.store.backup.restore import restore

    options: CliContext = context.obj
    settings = options.settings()
    with opened_store(settings, create=True) as (database, blobs), exclusive_home(settings.home):
        done = restore(
            database,
            blobs,
            file.absolute(),
            at=datetime.now(UTC),
            force=force,
            boards=settings.home / "boards",
        )
    manifest = done.manifest
    typer.echo(
        f"restored {sum(manifest.rows.values())} rows and {manifest.blobs} blobs of "
        f"{manifest.created_at[:19]} UTC (benchfarm {manifest.benchfarm}, {manifest.database})"
    )
    if manifest.boards:
        typer.echo(f"the SSH addresses of {', '.join(manifest.boards)} are back, with host keys")
    if done.aside:
        typer.echo(f"what was here is kept under names that end in {done.aside}")
    if not manifest.with_blobs:
        typer.echo(f"the backup holds no blobs: those in {blobs.root} are used")
    for sha256 in manifest.missing:
        typer.echo(f"blob {sha256} was not there when the backup was made", err=True)


@app.command("check")
def check(
    context: typer.Context,
    deep: bool = typer.Option(False, "--deep", help="Read every blob and hash it."),
    repair: bool = typer.Option(
        False, "--repair", help="Free blobs that nothing refers to; repairs nothing else."
    ),
    grace: str = typer.Option("1d", help="Leave unused blobs in peace that are younger than this."),
) -> None:
    """Say what is wrong with the farm's data, one line a finding; exit 1 if anything is."""
    from orchestrator.domain.durations import duration
    from orchestrator.farm_store import opened_store
    from orchestrator.store.backup import integrity_check as checks

    options: CliContext = context.obj
    grace_s = duration(grace, "--grace").total_seconds()
    with opened_store(options.settings()) as (database, blobs):
        if repair and database.revision() == database.known_revisions()[-1]:
            freed = checks.repair(database, blobs, grace_s=grace_s)
            typer.echo(f"freed {freed.blobs} files nothing used ({size(freed.size_bytes)})")
        found = 0
        for line in checks.findings(database, blobs, deep=deep, grace_s=grace_s):
            typer.echo(line)
            found += 1
    if found:
        raise typer.Exit(1)
    typer.echo("nothing is wrong" + ("" if deep else "; --deep would also read every blob"))


@app.command("prune")
def prune(
    context: typer.Context,
    samples_older_than: str = typer.Option(
        "", help="Raw samples of sweeps that ended so long ago: 90d. Their last report is kept."
    ),
    events_older_than: str = typer.Option("", help="Events of the log: 365d."),
    sweeps_older_than: str = typer.Option("", help="Whole sweeps that ended so long ago."),
    yes: bool = typer.Option(False, "--yes", help="Do it; without, only say what would be."),
) -> None:
    """Let go of what is old; what is not named follows BENCHFARM_KEEP_SAMPLES, …EVENTS, …SWEEPS."""
    from orchestrator import wiring
    from orchestrator.domain.durations import duration
    from orchestrator.domain.errors import FarmError, UserError
    from orchestrator.farm_store import opened_store
    from orchestrator.service import current_actor
    from orchestrator.service.sweeps import retention

    options: CliContext = context.obj
    settings = options.settings()
    given = (
        ("samples", settings.keep_samples, "BENCHFARM_KEEP_SAMPLES"),
        ("events", settings.keep_events, "BENCHFARM_KEEP_EVENTS"),
        ("sweeps", settings.keep_sweeps, "BENCHFARM_KEEP_SWEEPS"),
        ("samples", samples_older_than, "--samples-older-than"),
        ("events", events_older_than, "--events-older-than"),
        ("sweeps", sweeps_older_than, "--sweeps-older-than"),
    )
    policy = retention.Policy(**{what: duration(t, where) for what, t, where in given if t})
    if policy == retention.Policy():
        raise UserError(
            "nothing is to be pruned: say of what and how old, --samples-older-than 90d"
        )
    with opened_store(settings) as (database, _):
        if database.revision() != database.known_revisions()[-1]:
            raise FarmError("the tables are of another benchfarm; `benchfarm db check` says more")
    farm = wiring.build_farm(settings, "memory://")
    try:
        if not yes:
            _print_due(retention.preview(farm, policy))
            return
        with current_actor.acting_as(f"command line ({_user()})"):
            _print_pruned(retention.prune(farm, policy))
    finally:
        farm.database.close()


def _print_due(due: Pruning) -> None:
    for name in due.sweeps:
        typer.echo(f"would delete sweep {name}")
    for name in due.samples:
        typer.echo(f"would prune the raw samples of sweep {name}")
    if due.events:
        typer.echo(f"would delete {due.events} events")
    something = due.sweeps or due.samples or due.events
    typer.echo("nothing was changed; --yes does it" if something else "nothing is old enough")


def _print_pruned(done: Pruned) -> None:
    typer.echo(
        f"deleted {len(done.sweeps)} sweeps and {done.events} events, pruned the raw samples of "
        f"{len(done.samples)} sweeps: {done.freed_blobs} blobs freed ({size(done.freed_bytes)})"
    )
    for line in done.kept:
        typer.echo(line, err=True)
    if done.kept:
        raise typer.Exit(1)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
