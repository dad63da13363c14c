"""What a command waits for: a line that moves on a terminal, one plain line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

import typer

from orchestrator.cli.output import console

PATIENCE_S = 1.0
"""A shorter wait is not worth a line in a log."""


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on stderr what is waited for, until the block ends. A ``playbooks.waiting.Waiting``."""
    screen = console(stderr=True)
    if not screen.is_terminal or _shown.locked():
        timer = threading.Timer(PATIENCE_S, typer.echo, (f"waiting for {what}",), {"err": True})
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        return
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    # lines that are printed meanwhile go above it, unless stdout is somewhere else
    together = sys.stdout.isatty()
    moving = Spinner("dots", Text(f"waiting for {what}"))
    with _shown, Live(moving, console=screen, transient=True, redirect_stdout=together):
        yield


_shown = threading.Lock()
"""Held while a line moves: a terminal has room for one."""
