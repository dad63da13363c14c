"""The error of reading a board's facts and sensors."""


class Unreadable(Exception):
    """Something exists and cannot be read; the message says why, in a few words."""


class PartlyRead(Unreadable):
    """A part could not be read, or its tool complained; ``found`` is what was read all the same."""

    def __init__(self, found: object, why: str) -> None:
        super().__init__(why)
        self.found = found
