"""Whose a simulated farm is: nobody takes away, or cuts the power of, another's boards."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farm import emulation, farm
from farm.__main__ import app
from farm.board import Board, Plan
from farm.farm import NOBODY, Farm, Owner, began, farms, me
from farm.network import Network

OTHER = Owner("/somewhere/else", "1001")
FIRST = 9001
"""Numbers that no real farm has."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm, "STATE", tmp_path)
    monkeypatch.setattr(emulation, "stop", lambda: None)
    monkeypatch.setattr(Board, "unmake", lambda board: None)


def noted(number: int, owner: Owner, keeper: int = 0, keeper_began: str = "") -> None:
    found = Farm(Network(number), keeper, keeper_began, owner)
    found.folder.mkdir(parents=True)
    found.boards["pi"] = Board(Plan("pi"), 0, found.network, found.folder / "pi", Path("/tree"))
    found.note()


def down(*words: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["down", *words])
    return ended.exit_code, ended.output


def numbers() -> list[int]:
    return [found.network.number for found in farms()]


def test_only_ones_own_farms_go_and_the_others_are_named() -> None:
    noted(FIRST, me())
    noted(FIRST + 1, OTHER)
    noted(FIRST + 2, NOBODY)
    noted(FIRST + 3, Owner(me().checkout, "another user"))
    noted(FIRST + 4, me(), os.getpid(), began(os.getpid()))
    code, said = down()
    assert code == 0
    assert numbers() == [FIRST + n for n in (1, 2, 3, 4)]
    assert f"farm {FIRST} (pi) is gone" in said
    assert f"farm {FIRST + 1} (pi) is of 1001 in /somewhere/else: left alone" in said
    assert f"farm {FIRST + 2} (pi) is of nobody: left alone" in said
    assert f"kept by process {os.getpid()}: left alone" in said


def test_anothers_farm_goes_by_its_number_and_on_purpose_only() -> None:
    noted(FIRST, OTHER)
    assert down(str(FIRST))[0] == 2
    assert numbers() == [FIRST]
    code, said = down(str(FIRST + 7))
    assert code == 2
    assert f"no farm {FIRST + 7}; known: {FIRST}" in said
    assert down("--force")[0] == 0
    assert numbers() == [FIRST]
    assert down(str(FIRST), "--force") == (0, f"farm {FIRST} (pi) is gone\n")
    assert down() == (0, "there is no farm on this machine\n")


@pytest.mark.parametrize("command", ["cut", "unplug", "fill-disk", "on", "ssh"])
def test_a_board_of_that_name_on_anothers_farm_is_left_alone(command: str) -> None:
    noted(FIRST, OTHER)
    ended = CliRunner().invoke(app, [command, "pi"])
    assert ended.exit_code == 2
    assert "you have no board 'pi'" in ended.output


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_what_an_ended_run_left_goes_unless_it_is_anothers() -> None:
    noted(FIRST, me(), os.getpid(), "another process had this pid")
    noted(FIRST + 1, Owner(str(Path(__file__).parent), "1001"), os.getpid(), "another's")
    noted(FIRST + 2, OTHER, os.getpid(), "its checkout is gone")
    noted(FIRST + 3, me())
    assert [f.network.number - FIRST for f in farms() if f.is_abandoned] == [0, 2]
