"""What all commands share: the global options, the client, and errors as one message."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.settings import Settings


@dataclass(frozen=True)
class CliContext:
    """The global options, as given."""

    url: str = ""
    token: str = ""
    home: str = ""

    def settings(self) -> Settings:
        from orchestrator.settings import read_settings

        return read_settings(home=Path(self.home).resolve()) if self.home else read_settings()

    def client(self) -> Client:
        from orchestrator.client import Client

        return Client.from_home(self.settings(), self.url, self.token)


def client(context: typer.Context) -> Client:
    """A client of the controller that the global options select. Raises ``NoController``."""
    options: CliContext = context.obj
    return options.client()


def fail(error: Exception) -> int:
    """Print the error and return the exit code: 2 for wrong input, 1 for a failure of the farm."""
    from agent.worker.errors import AgentError
    from orchestrator.domain.errors import FarmError, NotAllowed, UserError
    from orchestrator.zoo.errors import UnknownArchitecture, ZooError
    from playbooks.errors import PlaybookError

    if isinstance(error, AgentError | PlaybookError):
        return _print_error(error, error.exit_code)
    if isinstance(error, UserError | UnknownArchitecture | NotAllowed):
        return _print_error(error, 2)
    if isinstance(error, FarmError | ZooError):
        return _print_error(error, 1)
    traceback.print_exception(error)
    return 1


def _print_error(error: Exception, code: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return code
