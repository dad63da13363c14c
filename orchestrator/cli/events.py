"""``benchfarm events``: who did what, and when."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import client
from orchestrator.cli.output import OUTPUT_OPTION, OutputFormat, show

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import EventView

EVERY_S = 1.0
OVERLAP = 200
"""Number of events before the newest that are fetched again: with two concurrent writers, the
higher number may become visible first."""


def events(
    context: typer.Context,
    count: int = typer.Option(50, "-n", min=1, max=1000, help="So many of the latest."),
    subject: str = typer.Option("", help="Only of this sweep, device, model or trial."),
    kind: str = typer.Option("", help="Only of this kind: sweep_submitted, device_joined, …"),
    since: str = typer.Option("", help="Only younger than this: 1d, 12h, 30min."),
    follow: bool = typer.Option(False, "-f", "--follow", help="Go on with those that happen."),
    output: OutputFormat = OUTPUT_OPTION,
) -> None:
    """The event log, oldest first: it is only ever appended to. Ctrl-C ends --follow."""
    from orchestrator.domain.durations import duration
    from orchestrator.domain.errors import UserError

    if follow and output not in (OutputFormat.TABLE, OutputFormat.JSON):
        raise UserError("--follow prints lines, or with -o json one object a line")
    start = datetime.now(UTC) - duration(since, "--since") if since else None
    with client(context) as farm:
        # fetched first, so that no event between the two requests is missed
        window = farm.events(limit=OVERLAP, latest=True) if follow else []
        found = farm.events(limit=count, subject=subject, kind=kind, since=start, latest=True)
        if not follow:
            show(found, [_row(e) for e in found], output)
            return
        for event in found:
            _print(event, output)
        seen = {e.id for e in (*window, *found)}
        newest = max((e.id for e in window), default=0)
        try:
            _follow(farm, seen, newest, subject, kind, output)
        except KeyboardInterrupt:
            return


def _follow(
    farm: Client, seen: set[int], newest: int, subject: str, kind: str, output: OutputFormat
) -> None:
    while True:
        time.sleep(EVERY_S)
        after = max(0, newest - OVERLAP)
        for event in farm.events(after=after, limit=1000, subject=subject, kind=kind):
            if event.id not in seen:
                _print(event, output)
                seen.add(event.id)
            newest = max(newest, event.id)
        seen -= {number for number in seen if number <= newest - OVERLAP}


def _print(event: EventView, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        sys.stdout.write(event.model_dump_json() + "\n")
    else:
        sys.stdout.write("  ".join(str(v) or "-" for v in _row(event).values()) + "\n")
    sys.stdout.flush()


def _row(event: EventView) -> dict[str, object]:
    more = {key: value for key, value in event.data.items() if value not in ("", None)}
    return {
        "number": event.id,
        "at": f"{event.at:%Y-%m-%d %H:%M:%S}",
        "by": event.by,
        "kind": event.kind,
        "subject": event.subject,
        "more": json.dumps(more, ensure_ascii=False) if more else "",
    }
