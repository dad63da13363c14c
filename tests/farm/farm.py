"""A farm: its boards, its login key, and a file by which another process can take it over."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from . import emulation
from .board import Board, Plan
from .commands import run
from .network import Network, open_network
from .tree import NATIVE, tree

STATE = Path("/var/tmp/benchfarm-farms")
NOTE = "farm.json"


class Farm:
    """``boards`` by name. ``keeper``: the pid that the farm ends with; 0: it runs till ``down``."""

    def __init__(self, network: Network, keeper: int = 0) -> None:
        self.network = network
        self.keeper = keeper
        self.folder = STATE / str(network.number)
        self.boards: dict[str, Board] = {}

    @property
    def key(self) -> Path:
        """The private key that every board accepts."""
        return self.folder / "key"

    def add(self, plan: Plan) -> Board:
        """Make a board; its power is off."""
        board = self._board(plan, len(self.boards), tree(plan.architecture))
        self.boards[plan.name] = board
        self.note()
        if plan.architecture != NATIVE:
            emulation.start()
        board.make(self.key.with_suffix(".pub").read_text())
        return board

    def _board(self, plan: Plan, place: int, lower: Path) -> Board:
        return Board(plan, place, self.network, self.folder / plan.name, lower)

    def note(self) -> None:
        """Write the file, before anything in it is made."""
        boards = [{"plan": asdict(b.plan), "tree": str(b.tree)} for b in self.boards.values()]
        text = json.dumps({"keeper": self.keeper, "boards": boards}, indent=2)
        written = self.folder / f"{NOTE}.new"
        written.write_text(text)
        written.replace(self.folder / NOTE)

    @classmethod
    def noted(cls, number: int) -> Farm:
        """Read the file of the farm with that number. Raises ``OSError`` where there is none."""
        found = json.loads((STATE / str(number) / NOTE).read_text())
        farm = cls(Network(number), found["keeper"])
        for place, item in enumerate(found["boards"]):
            plan = Plan(**item["plan"])
            farm.boards[plan.name] = farm._board(plan, place, Path(item["tree"]))
        return farm

    def close(self) -> None:
        """Remove everything of this farm."""
        for board in self.boards.values():
            board.unmake()
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if not farms():
            emulation.stop()


def open_farm(keeper: int = 0) -> Farm:
    """Make an empty farm on a new network; remove farms whose keeper has ended first."""
    for left in farms():
        if left.keeper and not Path(f"/proc/{left.keeper}").exists():
            left.close()
    farm = Farm(open_network(), keeper)
    shutil.rmtree(farm.folder, ignore_errors=True)
    farm.folder.mkdir(parents=True, mode=0o700)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "farm", "-f", farm.key)
    farm.note()
    return farm


def farms() -> list[Farm]:
    """Every farm of this machine, by number."""
    numbers = sorted(int(p.parent.name) for p in STATE.glob(f"*/{NOTE}"))
    return [Farm.noted(number) for number in numbers]


@contextlib.contextmanager
def running(*plans: Plan, start: bool = True) -> Iterator[Farm]:
    """A running farm, until the block ends."""
    farm = open_farm(os.getpid())
    try:
        switch_on(farm, plans, start=start)
        yield farm
    finally:
        farm.close()


def switch_on(farm: Farm, plans: Sequence[Plan], *, start: bool = True) -> None:
    """Add boards, and boot them in parallel."""
    added = [farm.add(plan) for plan in plans]
    if start:
        for board in added:
            board.on()
        for board in added:
            board.wait_ssh()


def ssh_words(farm: Farm, board: Board, words: Sequence[str] = ()) -> list[str]:
    """The ``ssh`` command line for a board; the host key must be the board's."""
    known = farm.folder / f"{board.name}.known_hosts"
    known.write_text(f"{board.address} {board.host_key()}\n")
    options: Mapping[str, object] = {"UserKnownHostsFile": known, "IdentitiesOnly": "yes"}
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return ["ssh", "-i", str(farm.key), *flags, f"bench@{board.address}", *words]
