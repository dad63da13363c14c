"""What a command waits for: a line that moves on a terminal, one plain line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

import typer

from orchestrator.cli.output import console, duration

PATIENCE_S = 1.0
"""A shorter wait is not worth a line in a log."""


@contextlib.contextmanager
def waiting(what: str, limit_s: float | None = None) -> Iterator[None]:
    """Say on stderr what is waited for, and until when, until the block ends. A
    ``playbooks.waiting.Waiting``."""
    screen = console(stderr=True)
    bound = "" if limit_s is None else f" (at most {duration(limit_s)})"
    if not screen.is_terminal or _shown.locked():
        words = f"waiting for {what}{bound}"
        timer = threading.Timer(PATIENCE_S, typer.echo, (words,), {"err": True})
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn

    moving = TextColumn(
        "waiting for {task.description}, {task.elapsed:.0f} s" + bound, markup=False
    )
    # lines that are printed meanwhile go above it, unless stdout is somewhere else
    together = sys.stdout.isatty()
    with (
        _shown,
        Progress(
            SpinnerColumn(), moving, console=screen, transient=True, redirect_stdout=together
        ) as line,
    ):
        line.add_task(what, total=None)
        yield


_shown = threading.Lock()
"""Held while a line moves: a terminal has room for one."""
