"""The one error of reading a board."""


class Unreadable(Exception):
    """Something that is there cannot be read; the message says why, in a few words."""
