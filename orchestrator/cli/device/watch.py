"""``benchfarm device watch``: all devices and what each runs, updated live."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import client
from orchestrator.cli.device.drain import enabled
from orchestrator.cli.device.health import free, health, temperature
from orchestrator.cli.output import (
    OUTPUT_OPTION,
    SELECTOR_OPTION,
    OutputFormat,
    console,
    duration,
    show,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orchestrator.client import Client
    from orchestrator.service.views import DeviceView

EVERY_S = 1.0
AGES = frozenset({"last heartbeat", "running since"})
"""Columns that change with time alone."""

STYLES = {"online": "green", "offline": "red", "retired": "dim", "good": "green", "bad": "red"}


def watch(
    context: typer.Context,
    output: OutputFormat = OUTPUT_OPTION,
    selector: list[str] = SELECTOR_OPTION,
    once: bool = typer.Option(False, "--once", help="Print it once, for a script."),
) -> None:
    """Watch the devices: live on a terminal, else a table whenever something changed."""
    from orchestrator.domain.selectors import parse

    wanted = parse(selector)
    with client(context) as farm:
        if once or output is not OutputFormat.TABLE:
            found = _listed(farm, wanted)
            show(found, rows(found, datetime.now(UTC)), output)
        elif console().is_terminal:
            _live(farm, wanted)
        else:
            _plain(farm, wanted)


def _listed(farm: Client, wanted: Mapping[str, str]) -> list[DeviceView]:
    from orchestrator.domain.selectors import matches

    return [d for d in farm.devices() if matches(wanted, d.labels())]


def rows(found: Sequence[DeviceView], now: datetime) -> list[dict[str, object]]:
    """A row of text for each device."""
    return [
        {
            "name": d.name,
            "connection": d.connection,
            "health": health(d),
            "temperature": temperature(d.temperature_c),
            "disk free": free(d.storage_free_mib),
            "enabled": enabled(d),
            "running": d.running.words() if d.running else "-",
            "running since": _age(d.running.since if d.running else None, now),
            "waiting": d.waiting,
            "last heartbeat": _age(d.seen_at, now),
        }
        for d in found
    ]


def _age(at: datetime | None, now: datetime) -> str:
    return "-" if at is None else duration(max(0.0, (now - at).total_seconds()))


def _live(farm: Client, wanted: Mapping[str, str]) -> None:
    """Update the table until Ctrl-C; while the controller does not answer, say so."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from orchestrator.client import NoController

    table = render(rows(_listed(farm, wanted), datetime.now(UTC)))
    with Live(table, console=console(), refresh_per_second=4) as live:
        while True:
            time.sleep(EVERY_S)
            try:
                table = render(rows(_listed(farm, wanted), datetime.now(UTC)))
                live.update(table)
            except NoController as error:
                live.update(Group(table, Text(f"{error}; this is the last that was seen", "red")))


def render(lines: Sequence[Mapping[str, object]]) -> RenderableType:
    """The live table."""
    from rich.table import Table
    from rich.text import Text

    if not lines:
        return Text("no device matches")
    table = Table(box=None, pad_edge=False)
    for column in lines[0]:
        table.add_column(column, overflow="fold")
    for line in lines:
        cells = map(str, line.values())
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in cells))
    return table


def _plain(farm: Client, wanted: Mapping[str, str]) -> None:
    printed: object = None
    while True:
        found = _listed(farm, wanted)
        lines = rows(found, datetime.now(UTC))
        stable = [{k: v for k, v in line.items() if k not in AGES} for line in lines]
        if stable != printed:
            show(found, lines, OutputFormat.TABLE)
            printed = stable
        time.sleep(EVERY_S)
