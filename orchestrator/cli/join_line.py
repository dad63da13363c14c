"""The line that joins a board by hand, with the certificate authority that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.context import CliContext

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.service.views import JoinView

ON_BOARD = "/etc/benchfarm/ca.pem"
"""Where the authority is expected on a board that is joined by hand."""
KEPT = "authority.pem"
"""File below the home of who joins boards: the authority, where no file of theirs has all of it."""


def authority_file(context: typer.Context, farm: Client) -> Path | None:
    """The file of the authority that a board must trust; ``None``: none besides its own."""
    pem = farm.authority()
    if not pem:
        return None
    given = Path(farm.ca_file)
    if farm.ca_file and given.read_text("utf-8") == pem:
        return given
    options: CliContext = context.obj
    kept = options.settings().home / KEPT
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(pem, encoding="utf-8")
    return kept


def join_line(join: JoinView, ca_file: Path | None) -> str:
    """The command for the board, and before it which file must be there first."""
    line = f"  benchfarm-agent join {join.url} {join.join_token} --name {join.device}"
    if ca_file is None:
        return line
    copied = f"  (first copy {ca_file.absolute()} to {ON_BOARD} there: it trusts that authority)"
    return f"{copied}\n{line} --ca-file {ON_BOARD}"
