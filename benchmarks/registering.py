"""Boards under systemd-nspawn: how long registering takes, alone and together, and what stays.

``BENCHFARM_BENCH_BOARDS`` says how many are registered together (20). Needs root, and is left out
elsewhere. The boards' own work is done by this machine's cores, too: boards that are machines of
their own leave it only what the controller does.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import yaml

from benchmarks.outcome import Outcome, of_rounds
from farm import needs
from farm.board import Board, Plan
from farm.cache import keep_wheels
from farm.farm import Farm, running
from support import cli
from support.cli import Shell
from support.servers import redis_program, redis_server

BOARDS = int(os.environ.get("BENCHFARM_BENCH_BOARDS", "20"))
ROUNDS_ALONE = 5
ROUNDS_TOGETHER = 2
FIRST_S, AGAIN_S = 60.0, 5.0
INSTALLED_MB, IDLE_MB = 80.0, 60.0
TOGETHER = 0.60
IDLE_AFTER_S = 15.0
LIMIT_S = 3600.0
CLASS = "x86-64-generic"


def measure() -> list[Outcome]:
    why = needs.missing() or ("" if redis_program() else "no redis-server on the path")
    if why:
        print(f"registering is left out: {why}", flush=True)
        return []
    plans = [Plan(f"board-{number:02}") for number in range(1, BOARDS + 1)]
    with running(*plans) as farm, _controller(farm) as shell:
        boards = list(farm.boards.values())
        return [*_alone(shell, farm, boards[0]), _together(shell, farm, boards)]


@contextmanager
def _controller(farm: Farm) -> Iterator[Shell]:
    host, program = farm.network.gateway, redis_program()
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        keep_wheels(home)
        with (
            redis_server(program, host) as broker,
            cli.running(home, ("--host", host), BENCHFARM_BROKER_URL=broker) as shell,
        ):
            yield shell


def _alone(shell: Shell, farm: Farm, board: Board) -> list[Outcome]:
    """One board, from nothing each time; the first time, which fetches wheels, does not count."""
    _add(shell, farm, board)
    _retire(shell, board)
    first_s, again_s, installed_mb, idle_mb = [], [], [], []
    for _ in range(ROUNDS_ALONE):
        first_s.append(_add(shell, farm, board))
        again_s.append(_add(shell, farm, board))
        time.sleep(IDLE_AFTER_S)
        idle_mb.append(_idle_mb(board))
        installed_mb.append(_installed_mb(board))
        _retire(shell, board)
    what = f"`device add` of a warm {CLASS} board"
    return [
        _over("registering_first", first_s, FIRST_S, f"{what}, to its first heartbeat", "s"),
        _over("registering_again", again_s, AGAIN_S, f"{what} that is one already", "s"),
        _over("agent_installed", installed_mb, INSTALLED_MB, "/opt/benchfarm on the board", "MB"),
        _over("agent_idle", idle_mb, IDLE_MB, "resident memory of the idle agent", "MB"),
    ]


def _over(name: str, found: Sequence[float], goal: float, what: str, unit: str) -> Outcome:
    middle = statistics.median(found)
    compared = f"{what}: {middle:.1f} {unit} over {goal:g} {unit}"
    return of_rounds(name, [value / goal for value in found], at_most=1.0, compared=compared)


def _together(shell: Shell, farm: Farm, boards: Sequence[Board]) -> Outcome:
    """All boards by one ``inventory apply``, and by one ``device add`` after another."""
    file = shell.home / "farm.yaml"
    file.write_text(_farm_file(farm, boards))
    apart, together = [], []
    for number in range(ROUNDS_TOGETHER):
        for kind in ("apart", "together") if number % 2 == 0 else ("together", "apart"):
            if kind == "apart":
                apart.append(sum(_add(shell, farm, board) for board in boards))
            else:
                together.append(_seconds(shell, "inventory", "apply", str(file)))
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda board: _retire(shell, board), boards))
    ratios = [one / other for one, other in zip(together, apart, strict=True)]
    compared = (
        f"{len(boards)} boards in one `inventory apply`, {statistics.median(together):.0f} s, over "
        f"`device add` one after another, {statistics.median(apart):.0f} s"
    )
    return of_rounds("registering_together", ratios, at_most=TOGETHER, compared=compared)


def _farm_file(farm: Farm, boards: Sequence[Board]) -> str:
    devices = {board.name: {"ssh": f"bench@{board.address}"} for board in boards}
    defaults = {"class": CLASS, "identity": str(farm.key)}
    return yaml.safe_dump({"defaults": defaults, "devices": devices}, sort_keys=False)


def _add(shell: Shell, farm: Farm, board: Board) -> float:
    ssh = ("--ssh", f"bench@{board.address}", "--identity", str(farm.key))
    return _seconds(shell, "device", "add", board.name, *ssh, "--class", CLASS)


def _retire(shell: Shell, board: Board) -> None:
    shell.fine("device", "retire", board.name, limit_s=LIMIT_S)


def _seconds(shell: Shell, *words: str) -> float:
    began = time.perf_counter()
    shell.fine(*words, limit_s=LIMIT_S)
    return time.perf_counter() - began


def _installed_mb(board: Board) -> float:
    """What /opt/benchfarm takes on the board's disk."""
    return int(board.inside("du -s --block-size=1 /opt/benchfarm").split()[0]) / 1e6


def _idle_mb(board: Board) -> float:
    """Resident memory of every process of the agent's; pages that they share count for each."""
    kib = board.inside("ps -u benchfarm -o rss=").split()
    return sum(map(int, kib)) * 1024 / 1e6
