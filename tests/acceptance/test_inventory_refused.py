"""``inventory apply`` and ``diff`` refuse a bad file or farm before they contact any board."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cli import Shell

TWO_MISTAKES = """\
controller_url: http://farm.example:8470
devices:
  pi-01:
    ssh: pi@192.0.2.1
    clas: raspberry-pi
  pi-02:
    ssh: pi@192.0.2.1
"""
GOOD = "devices:\n  far: {ssh: nobody@192.0.2.1, class: raspberry-pi}\n"


@pytest.mark.parametrize("verb", ["apply", "diff"])
def test_every_mistake_is_named_with_file_and_line(shell: Shell, tmp_path: Path, verb: str) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text(TWO_MISTAKES)
    assert shell.refused("inventory", verb, file).splitlines() == [
        f"error: {file}:5: unknown key 'devices.pi-01.clas' (did you mean 'class'?); accepted "
        "here: class, identity, python_archive, tags, runtimes, enabled, ssh, host_key",
        f"{file}:7: devices.pi-02.ssh: pi@192.0.2.1 is the address of 'pi-01' already (line 4): "
        "two names for one board",
    ]


def test_a_controller_that_no_board_reaches_is_said(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text(GOOD)
    assert "boards cannot reach the controller" in shell.refused("inventory", "apply", file)
    devices = json.loads(shell.fine("device", "list", "-o", "json"))
    assert [d["name"] for d in devices] == ["bench"]


def test_what_cannot_be_chosen_is_refused(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text(GOOD + "  near: {ssh: pi@192.0.2.2}\n")
    assert "no device matches name=x; it has: far, near" in shell.refused(
        "inventory", "apply", file, "-l", "name=x"
    )
    refusal = shell.refused("inventory", "apply", file, "-l", "name=far", "--prune")
    assert "--prune goes by the whole file" in refusal
    assert "cannot be read" in shell.refused("inventory", "diff", tmp_path / "none.yaml")
