"""``python -m tests.farm``: start and stop boards from a shell."""

from __future__ import annotations

import os
import sys

import typer

from . import needs
from .board import Board, Plan
from .farm import NOBODY, Farm, farms, open_farm, ssh_words, switch_on

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
    """List every farm of this machine, and whose it is."""
    for farm in farms():
        _show(farm)


def _show(farm: Farm) -> None:
    typer.echo(f"farm {farm.network.number}: {farm.network.subnet}, key {farm.key}, {_whose(farm)}")
    for board in farm.boards.values():
        state = "on" if board.is_on() else "off"
        typer.echo(
            f"  {board.name:<12} bench@{board.address:<14} {board.plan.architecture} {state}"
        )


def _whose(farm: Farm) -> str:
    owner = "yours" if farm.is_mine else f"of {farm.owner}" if farm.owner != NOBODY else "of nobody"
    if not farm.keeper:
        return owner
    return f"{owner}, {'kept by' if farm.is_kept else 'left by the ended'} process {farm.keeper}"


@app.command()
def down(
    numbers: list[int] = typer.Argument(None, help="Farms, as listed; none: all of this checkout."),
    force: bool = typer.Option(False, "--force", help="Another's farm too, if it is numbered."),
) -> None:
    """Remove farms of this checkout, except those of a test run that goes on."""
    found = {farm.network.number: farm for farm in farms()}
    unknown = [number for number in numbers or () if number not in found]
    if unknown:
        known = ", ".join(map(str, found)) or "none"
        raise typer.BadParameter(f"there is no farm {unknown[0]}; known: {known}")
    refused = False
    for number, farm in found.items():
        named = number in (numbers or ())
        if numbers and not named:
            continue
        if farm.is_kept or not (farm.is_mine or (named and force)):
            typer.echo(f"farm {number} ({', '.join(farm.boards)}) is {_whose(farm)}: left alone")
            refused = refused or named
            continue
        farm.close()
        typer.echo(f"farm {number} ({', '.join(farm.boards)}) is gone")
    if not found:
        typer.echo("there is no farm on this machine")
    raise typer.Exit(2 if refused else 0)


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
    mine = [farm for farm in farms() if farm.is_mine]
    for farm in reversed(mine):
        if name in farm.boards:
            return farm, farm.boards[name]
    known = ", ".join(b for f in mine for b in f.boards) or "none; make some with `up`"
    elsewhere = [_whose(f) for f in farms() if not f.is_mine and name in f.boards]
    theirs = f" (one of that name is {elsewhere[0]})" if elsewhere else ""
    raise typer.BadParameter(f"you have no board {name!r}{theirs}; known: {known}")


if __name__ == "__main__":
    sys.exit(app())
