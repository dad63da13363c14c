"""``benchfarm``: one file per noun; heavy imports only inside commands, so that --help is quick."""

from __future__ import annotations

import sys

import typer

from orchestrator.cli import broker, ca, db, demo, doctor, events, samples, token, up, zoo
from orchestrator.cli.context import CliContext, fail
from orchestrator.cli.device import device
from orchestrator.cli.inventory import inventory
from orchestrator.cli.model import model
from orchestrator.cli.sweep import report, sweep

app = typer.Typer(
    name="benchfarm",
    help="Benchmark neural networks across a farm of devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("up")(up.up)
app.command("demo")(demo.demo)
app.command("report")(report.report)
app.command("samples")(samples.samples)
app.command("events")(events.events)
app.command("doctor")(doctor.doctor)
app.add_typer(device.app, name="device")
app.add_typer(inventory.app, name="inventory")
app.add_typer(model.app, name="model")
app.add_typer(zoo.app, name="zoo")
app.add_typer(sweep.app, name="sweep")
app.add_typer(db.app, name="db")
app.add_typer(token.app, name="token")
app.add_typer(broker.app, name="broker")
app.add_typer(ca.app, name="ca")


def _print_version(wanted: bool) -> None:
    if wanted:
        from agent import __version__

        typer.echo(f"benchfarm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print it, and end."
    ),
    url: str = typer.Option("", envvar="BENCHFARM_URL", help="The controller's address."),
    token: str = typer.Option("", envvar="BENCHFARM_TOKEN", help="Your token.", show_envvar=True),
    home: str = typer.Option("", envvar="BENCHFARM_HOME", help="Where the controller keeps state."),
) -> None:
    context.obj = CliContext(url=url, token=token, home=home)


def main() -> None:
    """Run a command; exit code 0 for success, 1 for a failure of the farm, 2 for wrong input."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  named errors become one message, others a traceback
        sys.exit(fail(error))
