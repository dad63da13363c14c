"""The agent's log on a board."""

from __future__ import annotations

from collections.abc import Callable

from playbooks.connection import Login, connected
from playbooks.host_keys import Pins
from playbooks.target import UNIT


def stream(
    login: Login,
    pins: Pins,
    write: Callable[[bytes], object],
    *,
    lines: int,
    follow: bool = False,
    since_s: float | None = None,
) -> None:
    """Write the last ``lines`` of the agent's journal as they come; ``since_s``: only of the last
    so many seconds. With ``follow`` until ``KeyboardInterrupt``, which passes through once nothing
    of this is left running on the board.

    Raises:
        PlaybookError: the board cannot be reached, or its journal not be read.
    """
    words = f"journalctl --unit {UNIT} --output short-iso --no-pager --quiet --lines {lines}"
    if since_s is not None:
        words += f" --since=-{max(1, round(since_s))}s"
    with connected(login, pins) as host:
        host.stream(words + (" --follow" if follow else ""), write)
