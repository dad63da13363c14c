"""The playbooks' named errors. ``str(error)`` is the whole message a user reads."""

from __future__ import annotations

from typing import ClassVar


class PlaybookError(Exception):
    """A board could not be provisioned; finished steps stay, and a re-run resumes after them."""

    exit_code: ClassVar[int] = 1


class InvalidRequest(PlaybookError):
    """The request is invalid; the message says what would be accepted."""

    exit_code = 2


class Unreachable(PlaybookError):
    """No SSH connection: check the address, the cable and the power, then run the same again."""


class LoginRefused(PlaybookError):
    """The host refuses the keys and the password that were offered."""


class NoShell(PlaybookError):
    """The login shell runs no commands: it, its profile or a forced command does something else."""


class HostKeyChanged(PlaybookError):
    """The host key is not the pinned one: another machine answers, or the board was reflashed."""


class NoRoot(PlaybookError):
    """The login user may not become root."""


class Unfit(PlaybookError):
    """The board lacks something an agent needs; the message names it and how to install it."""


class BoardDiskFull(PlaybookError):
    """The board's disk has too little space."""


class ConnectionLost(PlaybookError):
    """The connection broke during a step; run the same again once the board is back."""


class WheelsMissing(PlaybookError):
    """The packages for the board could not be fetched to this machine."""


class StepFailed(PlaybookError):
    """A step failed; the message holds the output of the board."""
