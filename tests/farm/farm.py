"""A farm: its boards, its login key, and a file by which another process can take it over."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import emulation
from .board import Board, Plan
from .commands import run
from .network import Network, open_network
from .tree import NATIVE, tree

STATE = Path("/var/tmp/benchfarm-farms")
NOTE = "farm.json"


@dataclass(frozen=True)
class Owner:
    """Whose a farm is: the checkout of benchfarm and the user that started it."""

    checkout: str
    user: str

    def __str__(self) -> str:
        return f"{self.user} in {self.checkout}"


NOBODY = Owner("", "")
"""The owner of a farm whose file names none."""


def me() -> Owner:
    """Who runs this process; boards need root, so behind sudo the person."""
    user = os.environ.get("SUDO_USER") or str(os.getuid())
    return Owner(str(Path(__file__).resolve().parents[2]), user)


class Farm:
    """``boards`` by name. ``keeper``: the pid that the farm ends with; 0: it runs till ``down``.
    ``keeper_began``: when that process began, since pids are used again."""

    def __init__(
        self, network: Network, keeper: int = 0, keeper_began: str = "", owner: Owner = NOBODY
    ) -> None:
        self.network = network
        self.keeper = keeper
        self.keeper_began = keeper_began
        self.owner = owner
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
            with _emulation_lock():
                emulation.start()
        board.make(self.key.with_suffix(".pub").read_text())
        return board

    def _board(self, plan: Plan, place: int, lower: Path) -> Board:
        return Board(plan, place, self.network, self.folder / plan.name, lower)

    @property
    def is_mine(self) -> bool:
        return self.owner == me()

    @property
    def is_kept(self) -> bool:
        """Whether the process that it ends with still runs."""
        return bool(self.keeper) and began(self.keeper) == self.keeper_began

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that it would end with is gone, and so may the farm be: it is this
        checkout's, or its checkout is gone too."""
        left = bool(self.keeper) and not self.is_kept
        return left and (self.is_mine or not Path(self.owner.checkout or "/").is_dir())

    def note(self) -> None:
        """Write the file, before anything in it is made."""
        boards = [{"plan": asdict(b.plan), "tree": str(b.tree)} for b in self.boards.values()]
        kept = {"keeper": self.keeper, "keeper_began": self.keeper_began}
        text = json.dumps({**kept, "owner": asdict(self.owner), "boards": boards}, indent=2)
        written = self.folder / f"{NOTE}.new"
        written.write_text(text)
        written.replace(self.folder / NOTE)

    @classmethod
    def noted(cls, number: int) -> Farm:
        """Read the file of the farm with that number. Raises ``OSError`` where there is none."""
        found = json.loads((STATE / str(number) / NOTE).read_text())
        owner = Owner(**found.get("owner", asdict(NOBODY)))
        farm = cls(Network(number), found["keeper"], found.get("keeper_began", ""), owner)
        for place, item in enumerate(found["boards"]):
            plan = Plan(**item["plan"])
            farm.boards[plan.name] = farm._board(plan, place, Path(item["tree"]))
        return farm

    def close(self) -> None:
        """Remove everything of this farm."""
        for board in self.boards.values():
            board.unmake()
        # the bridge last: who makes it has this number, and with it this folder
        shutil.rmtree(self.folder, ignore_errors=True)
        self.network.close()
        with _emulation_lock():
            if not any(b.plan.architecture != NATIVE for f in farms() for b in f.boards.values()):
                emulation.stop()


def open_farm(keeper: int = 0) -> Farm:
    """Make an empty farm on a new network; remove what ended runs of this checkout left first."""
    for left in farms():
        if left.is_abandoned:
            left.close()
    farm = Farm(open_network(), keeper, began(keeper) if keeper else "", me())
    shutil.rmtree(farm.folder, ignore_errors=True)
    farm.folder.mkdir(parents=True, mode=0o700)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "farm", "-f", farm.key)
    farm.note()
    return farm


def farms() -> list[Farm]:
    """Every farm of this machine, by number, whosever it is."""
    found = []
    for number in sorted(int(p.parent.name) for p in STATE.glob(f"*/{NOTE}")):
        with contextlib.suppress(FileNotFoundError):  # another process takes it down just now
            found.append(Farm.noted(number))
    return found


def began(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


@contextlib.contextmanager
def _emulation_lock() -> Iterator[None]:
    """The emulator is the whole machine's: one farm at a time registers it or takes it away."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "emulation.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
