"""The playbooks' named errors. ``str(error)`` is the whole message a user reads."""

from __future__ import annotations

from typing import ClassVar


class PlaybookError(Exception):
    """A board could not be provisioned; what was done so far stays, and a re-run carries on."""

    exit_code: ClassVar[int] = 1


class BadOrder(PlaybookError):
    """What was asked for is wrong; the message says what would be accepted."""

    exit_code = 2


class Unreachable(PlaybookError):
    """No SSH connection: check the address, the cable and the power, then run the same again."""


class LoginRefused(PlaybookError):
    """The host admits neither the keys nor the password that were offered."""


class HostKeyChanged(PlaybookError):
    """The host is not the one that was pinned: another machine answers, or it was flashed anew."""


class NoRoot(PlaybookError):
    """The login's user may not become root."""


class Unfit(PlaybookError):
    """The board lacks what an agent needs; the message says what, and how to give it."""


class BoardDiskFull(PlaybookError):
    """The board's disk has too little space."""


class ConnectionLost(PlaybookError):
    """The board went away in the middle; run the same again once it is back."""


class WheelsMissing(PlaybookError):
    """The packages for the board could not be fetched to this machine."""


class StepFailed(PlaybookError):
    """A step did not do what it is for; the message holds what the board said."""
