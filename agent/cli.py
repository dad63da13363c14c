"""``benchfarm-agent``: the commands on a board. Entry points parse, call and return."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.worker.config import default_state_dir, load

app = typer.Typer(
    name="benchfarm-agent",
    help="The benchfarm agent: makes this board a device of a farm.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
runtimes_app = typer.Typer(help="Runtime environments of this board.", no_args_is_help=True)
app.add_typer(runtimes_app, name="runtimes")


class ListFormat(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", help="Where the agent keeps its state.", show_default=False),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        import agent

        typer.echo(f"benchfarm-agent {agent.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it, and end."
        ),
    ] = False,
) -> None:
    """The benchfarm agent: makes this board a device of a farm."""


Format = Annotated[ListFormat, typer.Option("-o", "--output", help="table or json.")]


@app.command()
def join(
    url: Annotated[str, typer.Argument(help="The controller, e.g. http://farm:8470")],
    token: Annotated[str, typer.Argument(help="A one-time join token; - reads it from stdin.")],
    name: Annotated[str, typer.Option(help="This device's name.", show_default="host name")] = "",
    ca_file: Annotated[str, typer.Option(help="Trust this CA, for controller and broker.")] = "",
    state_dir: StateDir = None,
) -> None:
    """Enrol this board: redeem a join token and remember who it is."""
    from agent.worker.uplink import enrol

    if token == "-":  # an argument could be read in the list of processes
        token = sys.stdin.readline().strip()
    config = enrol.join(url, token, name, _state_dir(state_dir), ca_file)
    typer.echo(f"joined as {config.device}; start the agent with `benchfarm-agent run`")


@app.command()
def run(state_dir: StateDir = None, verbose: bool = False) -> None:
    """Run the agent until it is told to stop (SIGTERM, SIGINT)."""
    from agent.worker import daemon

    daemon.run(load(_state_dir(state_dir)), verbose=verbose)


@app.command()
def probe(output: Format = ListFormat.table, state_dir: StateDir = None) -> None:
    """Show what this device is and which runtimes answer here."""
    from agent.worker import cli_support

    facts = cli_support.device_facts(_state_dir(state_dir))
    _show(facts, cli_support.facts_rows(facts), output)


@app.command()
def doctor(output: Format = ListFormat.table, state_dir: StateDir = None) -> None:
    """Check everything between this board and its controller."""
    from agent.worker import doctor as checks

    findings = checks.examine(_state_dir(state_dir))
    _show(findings, [(f.check, "ok" if f.ok else "FAILED", f.text) for f in findings], output)
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


@runtimes_app.command("list")
def runtimes_list(output: Format = ListFormat.table, state_dir: StateDir = None) -> None:
    """List what answers here, in which environment, and what building it cost."""
    from agent.worker import cli_support

    listed = cli_support.runtimes(_state_dir(state_dir)).listing()
    _show(listed, cli_support.listed_rows(listed), output, cli_support.LISTED_COLUMNS)


@runtimes_app.command("add")
def runtimes_add(
    name: Annotated[
        str, typer.Argument(metavar="NAME[@VARIANT][==VERSION]", help="e.g. openvino==2026.4.1")
    ],
    python: Annotated[
        str, typer.Option(help="Build nothing: this interpreter has the runtime.")
    ] = "",
    wheelhouse: Annotated[
        Path | None,
        typer.Option(
            envvar="BENCHFARM_WHEELHOUSE", help="Install from this folder of wheels alone."
        ),
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Build an environment for a backend and version, or name an existing interpreter."""
    from agent.worker import cli_support

    runtimes = cli_support.runtimes(_state_dir(state_dir))
    with _interruptible():
        if python:
            added = runtimes.add(name, python, _print_progress)
        else:
            added = runtimes.build(name, wheelhouse, _print_progress)
    typer.echo(f"{added.name}: {added.backend} {added.version} under {added.python}")


@runtimes_app.command("remove")
def runtimes_remove(
    name: Annotated[str, typer.Argument(help="As listed, or BACKEND==VERSION.")],
    force: Annotated[
        bool, typer.Option("--force", help="Do not wait for the end of a running attempt.")
    ] = False,
    state_dir: StateDir = None,
) -> None:
    """Forget an environment: one that was built is deleted, a named interpreter stays."""
    from agent.worker import cli_support

    runtimes = cli_support.runtimes(_state_dir(state_dir))
    removed = runtimes.remove(name, _print_progress, force=force)
    typer.echo(f"{removed.name} is removed")


def _print_progress(line: str) -> None:
    typer.echo(line, err=True)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Inside, SIGTERM unwinds like Ctrl-C, so that nothing half-built stays."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was kept of what was being built", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _state_dir(chosen: Path | None) -> Path:
    return chosen or default_state_dir()


def _show(
    value: Any, rows: list[tuple[str, ...]], output: ListFormat, header: Sequence[str] = ()
) -> None:
    """Print ``value`` as JSON, or ``rows`` as a table, with ``header`` above its columns."""
    if output is ListFormat.json:
        from dataclasses import asdict

        plain = [asdict(v) for v in value] if isinstance(value, (tuple, list)) else asdict(value)
        typer.echo(json.dumps(plain, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=bool(header), pad_edge=False)
    last = max((len(row) for row in (*rows, tuple(header))), default=0) - 1
    for column in range(last + 1):
        # People type names from the first columns: they must not be cut. The last one is folded
        # within its own column, so that no line of it begins below another one's.
        title = header[column] if header else ""
        table.add_column(title, overflow="fold", no_wrap=column < last)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a pipe: a line a row
        console = Console(markup=False, highlight=False, width=10_000)
    console.print(table)


def main() -> None:
    """Exit codes: 0 fine, 1 the farm failed, 2 the user's input is wrong."""
    from agent.worker.errors import AgentError

    try:
        app()
    except AgentError as error:
        print(f"benchfarm-agent: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
