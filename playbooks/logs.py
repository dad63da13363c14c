"""The agent's log on a board."""

from __future__ import annotations

from collections.abc import Callable

from playbooks.connection import Login, connected
from playbooks.host_keys import PinnedHostKeys
from playbooks.target import UNIT
from playbooks.waiting import Waiting, unseen


def stream(
    login: Login,
    host_keys: PinnedHostKeys,
    write: Callable[[bytes], object],
    *,
    lines: int,
    follow: bool = False,
    since_s: float | None = None,
    waiting: Waiting = unseen,
) -> None:
    """Write the last ``lines`` of the agent's journal; ``since_s`` limits them to the last seconds.
    With ``follow`` it goes on until ``KeyboardInterrupt``, which is raised again once the command
    has ended on the board.

    Raises:
        PlaybookError: the board cannot be reached, or its journal cannot be read.
    """
    words = f"journalctl --unit {UNIT} --output short-iso --no-pager --quiet --lines {lines}"
    if since_s is not None:
        words += f" --since=-{max(1, round(since_s))}s"
    with connected(login, host_keys, waiting) as host:
        host.stream(words + (" --follow" if follow else ""), write)
