"""Power modes: the commands that query, set and restore them, as argument vectors.

A mode is one of the names in its device class. Where the vendor's tool takes a number, it is read
from the board's own list, because it differs between modules: MAXN_SUPER is 2 on an Orin Nano 8GB
and 0 on an Orin NX 16GB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MODE = re.compile(r"^[ \t]*<\s*POWER_MODEL\s+ID=(\d{1,3})\s+NAME=(\S{1,60})\s*>", re.MULTILINE)
_NAME = re.compile(r"NV Power Mode:[ \t]*([^\s:]+)")

Argv = tuple[str, ...]


class UnknownMode(ValueError):
    """Not a mode that can be set; the message names those that can."""


@dataclass(frozen=True)
class PowerCommands:
    """The commands of a device class.

    Attributes:
        query: prints the mode.
        select: sets one; ``{id}`` or ``{name}`` stands for it.
        listing: the board's file of modes with their numbers; empty: ``select`` takes names.
        lock: locks the clocks at the mode's highest.
        store: saves the clocks to a file, before ``lock``.
        restore: sets the saved clocks again.
        forget: removes the saved file: ``store`` would ask before it overwrites it.
        show: prints the clocks.
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
        """The class's modes in the board's list ``text``, with their numbers."""
        return {name: n for name, n in modes_of(text).items() if name in self.modes}

    def to_set(self, mode: str, numbers: Mapping[str, int]) -> Argv:
        """The command that sets ``mode``; with the mode queried before, it restores that.

        Raises:
            UnknownMode: not a mode of the class, or not one of this board.
        """
        here = [m for m in self.modes if not self.listing or m in numbers]
        if mode not in here:
            raise UnknownMode(f"power mode {mode!r}: expected {', '.join(here) or 'none here'}")
        given = {"{name}": mode, "{id}": str(numbers.get(mode, ""))}
        return tuple(given.get(word, word) for word in self.select)

    def allowed(self, numbers: Mapping[str, int]) -> tuple[Argv, ...]:
        """All commands that the agent may run as root on this board."""
        modes = [m for m in self.modes if not self.listing or m in numbers]
        clocks = (self.show, self.forget, self.store, self.lock, self.restore)
        sets = (self.to_set(m, numbers) for m in modes)
        return tuple(dict.fromkeys(a for a in (self.query, *sets, *clocks) if a))


def modes_of(text: str) -> dict[str, int]:
    """Name → number of the modes in an ``nvpmodel.conf``."""
    return {name: int(number) for number, name in _MODE.findall(text)}


def current_mode(text: str) -> str:
    """The mode's name in the output of ``nvpmodel -q``, with or without ``--verbose``; else empty.

    The output is ``NV Power Mode: MAXN``, then its number; ``NV Fan Mode:quiet`` may precede it.
    """
    found = _NAME.search(text)
    return found[1] if found else ""
