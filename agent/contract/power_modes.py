"""Power modes: the commands that ask for them, set them and put them back, as argument vectors.

A mode is one of its class's names. Where a tool wants a number, the board's own list gives it: the
same name has other numbers on other modules (MAXN_SUPER is 2 on an Orin Nano 8GB, 0 on an Orin NX
16GB).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MODE = re.compile(r"^<\s*POWER_MODEL\s+ID=(\d{1,3})\s+NAME=(\S{1,60})\s*>", re.MULTILINE)
_NAME = re.compile(r"NV Power Mode:[ \t]*([^\s:]+)")

Argv = tuple[str, ...]


class UnknownMode(ValueError):
    """No mode that can be set; the message names those that can."""


@dataclass(frozen=True)
class PowerCommands:
    """``query`` prints the mode; ``select`` sets one, with ``{id}`` or ``{name}`` in its place;
    ``listing`` is the board's file of modes with their numbers (empty: names are enough).

    ``lock`` holds the clocks at the mode's highest; ``store`` notes them before, ``restore`` puts
    them back and ``forget`` drops the note, which ``store`` would ask about.
    """

    modes: Argv
    query: Argv
    select: Argv
    listing: str = ""
    show: Argv = ()
    forget: Argv = ()
    store: Argv = ()
    lock: Argv = ()
    restore: Argv = ()

    def numbers(self, text: str) -> dict[str, int]:
        """The class's modes that the board's list ``text`` has, with their numbers there."""
        return {name: n for name, n in modes_of(text).items() if name in self.modes}

    def to_set(self, mode: str, numbers: Mapping[str, int]) -> Argv:
        """What sets ``mode``. Setting the one that was asked for before is what restores it.

        Raises:
            UnknownMode: not a mode of the class, or none that this board has.
        """
        here = [m for m in self.modes if not self.listing or m in numbers]
        if mode not in here:
            raise UnknownMode(f"power mode {mode!r}: expected {', '.join(here) or 'none here'}")
        given = {"{name}": mode, "{id}": str(numbers.get(mode, ""))}
        return tuple(given.get(word, word) for word in self.select)

    def allowed(self, numbers: Mapping[str, int]) -> tuple[Argv, ...]:
        """All that may be run as root for it on this board, and nothing more."""
        modes = [m for m in self.modes if not self.listing or m in numbers]
        clocks = (self.show, self.forget, self.store, self.lock, self.restore)
        sets = (self.to_set(m, numbers) for m in modes)
        return tuple(dict.fromkeys(a for a in (self.query, *sets, *clocks) if a))


def modes_of(text: str) -> dict[str, int]:
    """Name → number of the modes in an ``nvpmodel.conf``."""
    return {name: int(number) for number, name in _MODE.findall(text)}


def current_mode(text: str) -> str:
    """The mode's name in what ``nvpmodel -q`` printed, with or without ``--verbose``; else empty.

    ``NV Power Mode: MAXN``, then its number; before it there may be ``NV Fan Mode:quiet``.
    """
    found = _NAME.search(text)
    return found[1] if found else ""
