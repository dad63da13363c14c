"""``python -m tests.farm``: start and stop boards from a shell."""

from __future__ import annotations

import os
import sys

import typer

from . import needs
from .board import Board, Plan
from .farm import Farm, farms, open_farm, ssh_words, switch_on

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
DEFAULT_BOARDS = ["board-1", "board-2", "board-3"]


@app.command()
def up(
    names: list[str] = typer.Argument(None, help="Boards; NAME:arm64 for an aarch64 one."),
) -> None:
    """Start a farm that runs until `down`."""
    why = needs.missing()
    if why:
        raise typer.BadParameter(why)
    farm = open_farm()
    try:
        switch_on(farm, [_plan(name) for name in names or DEFAULT_BOARDS])
    except BaseException:
        farm.close()
        raise
    _show(farm)


def _plan(text: str) -> Plan:
    name, _, architecture = text.partition(":")
    return Plan(name, architecture or "amd64")


@app.command("list")
def list_() -> None:
    """List every farm of this machine."""
    for farm in farms():
        _show(farm)


def _show(farm: Farm) -> None:
    typer.echo(f"farm {farm.network.number}: {farm.network.subnet}, key {farm.key}")
    for board in farm.boards.values():
        state = "on" if board.is_on() else "off"
        typer.echo(
            f"  {board.name:<12} bench@{board.address:<14} {board.plan.architecture} {state}"
        )


@app.command()
def down() -> None:
    """Remove every farm that does not belong to a test run."""
    for farm in farms():
        if farm.keeper and os.path.exists(f"/proc/{farm.keeper}"):
            typer.echo(f"farm {farm.network.number} belongs to process {farm.keeper}: left alone")
            continue
        farm.close()
        typer.echo(f"farm {farm.network.number} is gone")


@app.command(context_settings={"ignore_unknown_options": True})
def ssh(name: str, words: list[str] = typer.Argument(None)) -> None:
    """Log in to a board, or run a command there."""
    farm, board = _find(name)
    command = ssh_words(farm, board, words or [])
    os.execvp(command[0], command)


@app.command()
def on(name: str) -> None:
    """Switch a board on, and wait until its sshd answers."""
    board = _find(name)[1]
    board.on()
    board.wait_ssh()


@app.command()
def cut(name: str) -> None:
    """Cut a board's power."""
    _find(name)[1].cut_power()


@app.command()
def unplug(name: str) -> None:
    """Pull a board's network cable."""
    _find(name)[1].cut_network()


@app.command()
def plug(name: str) -> None:
    """Put a board's network cable back."""
    _find(name)[1].mend_network()


@app.command("fill-disk")
def fill_disk(name: str) -> None:
    """Leave 1 MiB free on a board's disk."""
    _find(name)[1].fill_disk()


@app.command("empty-disk")
def empty_disk(name: str) -> None:
    """Undo `fill-disk`."""
    _find(name)[1].empty_disk()


def _find(name: str) -> tuple[Farm, Board]:
    for farm in reversed(farms()):
        if name in farm.boards:
            return farm, farm.boards[name]
    known = ", ".join(b for f in farms() for b in f.boards) or "none; make some with `up`"
    raise typer.BadParameter(f"there is no board {name!r}; known: {known}")


if __name__ == "__main__":
    sys.exit(app())
