"""The one error of reading facts."""


class Unreadable(Exception):
    """A fact cannot be read here; the message says why, in a few words."""
