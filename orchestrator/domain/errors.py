"""The controller's named errors. ``str(error)`` is the whole message a user reads."""

from __future__ import annotations


class FarmError(Exception):
    """Something in the farm failed; ``transient`` says whether trying again could help."""

    transient = False
    kind = "farm_error"


class UserError(FarmError):
    """The user's input is wrong; the message says what, where, and what would be accepted."""

    kind = "bad_input"


class NotFound(UserError):
    """Nothing of that name exists; the message lists what does."""

    kind = "not_found"

    def __init__(self, noun: str, name: str, known: list[str], where: str = "") -> None:
        """``where``: the file and key that named it, as the message begins."""
        listed = ", ".join(sorted(known)[:20]) or "none yet"
        super().__init__(f"{where}there is no {noun} {name!r}; known: {listed}")


class Conflict(UserError):
    """The name is taken, or the state does not allow it."""

    kind = "conflict"


class NotAllowed(FarmError):
    """The token is missing, unknown, revoked, or its role does not reach this far."""

    kind = "not_allowed"


class TooOften(FarmError):
    """This address has asked too often; it may again within a minute."""

    transient = True
    kind = "too_often"


class Busy(FarmError):
    """As many files are being read, and wait for it, as may be; try again in a minute."""

    transient = True
    kind = "busy"


class Superseded(FarmError):
    """A later attempt of this trial exists, or it was cancelled: this result counts nowhere."""

    kind = "superseded"


class UnknownAttempt(FarmError):
    """This device has no such attempt."""

    kind = "unknown_attempt"


class IllegalMove(FarmError):
    """A trial was asked to go from one state to another that does not follow it."""

    kind = "illegal_move"

    def __init__(self, trial: str, state: str, to: str) -> None:
        super().__init__(f"trial {trial}: {state} cannot become {to}")
