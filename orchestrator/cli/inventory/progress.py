"""Progress of ``benchfarm inventory``: on a terminal a live line for each board, else plain
lines."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.output import console
from orchestrator.cli.waiting import PATIENCE_S
from orchestrator.domain.errors import FarmError
from orchestrator.provisioning.board import Awaited, BoardOutcome
from orchestrator.provisioning.parallel import JobOutcome
from playbooks.errors import PlaybookError
from playbooks.step_runner import StepEvent

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

WAITING, WORKING, FAILED, STOPPED, ENDED = "waiting", "working", "failed", "stopped", "done"
ORDER = (WORKING, FAILED, WAITING, STOPPED, ENDED)
"""The order of lines: if the terminal has too few rows, the most important are shown."""


@dataclass
class _BoardLine:
    state: str = WAITING
    step: str = ""
    changed: int = 0
    began: float = 0.0
    seconds: float = field(default=0.0)
    awaited: str = ""
    awaited_since: float | None = None
    """``None``: it was told, or nothing is awaited."""

    def shown_s(self) -> float:
        return time.monotonic() - self.began if self.state == WORKING else self.seconds


def _why(end: JobOutcome[Any]) -> str:
    return str(end.error) if end.stopped else f"failed: {end.error}"


class FleetProgress:
    """``quiet``: only the live view, on stderr, for commands that print their result on stdout."""

    def __init__(self, dry_run: bool, quiet: bool = False) -> None:
        self._dry_run = dry_run
        self._quiet = quiet
        self._screen = console(stderr=quiet)
        self._lines: dict[str, _BoardLine] = {}
        self._live: Live | None = None

    @contextlib.contextmanager
    def showing(self, names: Sequence[str]) -> Iterator[None]:
        """Show these boards until the block ends."""
        self._lines = {name: _BoardLine() for name in names}
        if not names or not self._screen.is_terminal:
            yield
            return
        from rich.live import Live

        with Live(self._table(), console=self._screen, auto_refresh=False, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def on_report(self, name: str, report: StepEvent | str | Awaited | JobOutcome[Any]) -> None:
        line = self._lines[name]
        if line.state == WAITING:
            line.state, line.began = WORKING, time.monotonic()
        if isinstance(report, JobOutcome):
            self._end(name, line, report)
        elif isinstance(report, Awaited):
            line.awaited = report.what
            line.awaited_since = time.monotonic() if report.what else None
        elif isinstance(report, str):
            self._print(f"{name}: {report}")
        else:
            line.step = report.step
            line.changed += report.status in ("changed", "would change")
            self._print_event(name, report)

    def on_tick(self) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            return
        for name, line in self._lines.items():
            since = line.awaited_since
            if since is not None and time.monotonic() - since > PATIENCE_S:
                line.awaited_since = None
                self._print(f"{name}: waiting for {line.awaited}")

    def on_stop(self) -> None:
        self._print("stopping: each board ends the step it is in; Ctrl-C again leaves at once")

    def summary(self, ended: Mapping[str, JobOutcome[Any]]) -> None:
        """Print a row for each board, with its error if it failed, and a line of totals."""
        from rich.markup import escape
        from rich.table import Table

        would = "would change" if self._dry_run else "changed"
        table = Table(box=None, pad_edge=False)
        for column in ("name", "class", "steps", would, "seconds", "state"):
            right = column in ("steps", would, "seconds")
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for name, end in ended.items():
            result = end.value
            table.add_row(
                name,
                *(
                    (
                        result.device_class,
                        str(result.steps),
                        str(result.changed),
                    )
                    if result
                    else ("", "", str(self._changed(name)))
                ),
                f"{end.seconds:.1f}",
                escape(result.state if result else _why(end)),
            )
        self._screen.print(table)
        good = sum(1 for e in ended.values() if e.error is None)
        failed = sum(1 for e in ended.values() if e.error and not e.stopped)
        changed = sum(e.value.changed for e in ended.values() if e.value)
        well = "could be looked at" if self._dry_run else "as the file says"
        typer.echo(f"{len(ended)} boards: {good} {well}, {failed} failed, {would}={changed}")

    def _changed(self, name: str) -> int:
        return self._lines[name].changed if name in self._lines else 0

    def _print_event(self, name: str, event: StepEvent) -> None:
        if self._live is not None:
            return
        if not event.status:
            self._print(f"{name}: {event.step} … {event.text}")
        elif event.status != "ok":
            why = f" ({event.text})" if event.status == "would change" else ""
            self._print(f"{name}: {event.step} {event.status}{why} {event.seconds:.1f} s")

    def _end(self, name: str, line: _BoardLine, end: JobOutcome[Any]) -> None:
        line.seconds = end.seconds
        line.state = STOPPED if end.stopped else FAILED if end.error else ENDED
        line.step, line.awaited, line.awaited_since = "", "", None
        result, error = end.value, end.error
        if isinstance(result, BoardOutcome) and not self._quiet:
            would = "would change" if self._dry_run else "changed"
            self._print(
                f"{name}: {result.steps} steps, {would}={result.changed}, {end.seconds:.1f} s"
            )
        elif error is not None and not end.stopped:
            if not isinstance(error, PlaybookError | FarmError):
                traceback.print_exception(error)
            sys.stderr.write(f"error: {name}: {error}\n")

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        elif not self._quiet:
            typer.echo(text)

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in ("name", "state", "step", "changed", "seconds"):
            table.add_column(
                column, justify="right" if column in ("changed", "seconds") else "left"
            )
        ordered = sorted(self._lines.items(), key=lambda item: ORDER.index(item[1].state))
        for name, line in ordered:
            table.add_row(
                name,
                line.state,
                line.awaited or line.step,
                str(line.changed),
                f"{line.shown_s():.0f}",
            )
        return table
