"""The error of reading a board's facts and sensors."""


class Unreadable(Exception):
    """Something exists and cannot be read; the message says why, in a few words."""
