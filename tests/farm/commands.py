"""Run system tools; the error of a failed one holds its output."""

from __future__ import annotations

import subprocess

LIMIT_S = 60.0


class CommandFailed(RuntimeError):
    """A tool failed; the message holds its output."""


def run(*words: object, text: str = "", check: bool = True, limit_s: float = LIMIT_S) -> str:
    """Run a tool with ``text`` on its stdin and return its stdout. Raises ``CommandFailed``."""
    command = [str(word) for word in words]
    ended = subprocess.run(
        command, input=text, capture_output=True, text=True, errors="replace", timeout=limit_s
    )
    if check and ended.returncode:
        said = (ended.stderr or ended.stdout).strip()
        raise CommandFailed(f"{' '.join(command)}: exit {ended.returncode}: {said}")
    return ended.stdout
