"""The controller's named errors. ``str(error)`` is the whole message a user reads."""

from __future__ import annotations


class FarmError(Exception):
    """Something in the farm failed; ``transient``: whether a retry could help."""

    transient = False
    kind = "farm_error"


class UserError(FarmError):
    """The user's input is wrong; the message says what, where, and what would be accepted."""

    kind = "bad_input"


class NotFound(UserError):
    """There is no object of that name; the message lists those that exist."""

    kind = "not_found"

    def __init__(self, noun: str, name: str, known: list[str], where: str = "") -> None:
        """``where``: the file, line and key that named it, which begin the message."""
        listed = ", ".join(sorted(known)[:20]) or "none yet"
        super().__init__(f"{where}there is no {noun} {name!r}; known: {listed}")


class Conflict(UserError):
    """The name is taken, or the state does not allow it."""

    kind = "conflict"


class NotAllowed(FarmError):
    """The token is missing, unknown or revoked, or its role does not permit this."""

    kind = "not_allowed"


class TooOften(FarmError):
    """Too many requests from this address; it may try again within a minute."""

    transient = True
    kind = "too_often"


class Busy(FarmError):
    """Too many files are being read or are waiting to be; try again in a minute."""

    transient = True
    kind = "busy"


class BoardsNotReady(FarmError):
    """A sweep was to run on every board or not at all, and not every board would run it now."""

    transient = True
    kind = "boards_not_ready"


class Superseded(FarmError):
    """A later attempt of this trial exists, or it was cancelled: this result is discarded."""

    kind = "superseded"


class UnknownAttempt(FarmError):
    """This device has no such attempt."""

    kind = "unknown_attempt"


class IllegalMove(FarmError):
    """The state machine of trials has no such transition."""

    kind = "illegal_move"

    def __init__(self, trial: str, state: str, to: str) -> None:
        super().__init__(f"trial {trial}: {state} cannot become {to}")
