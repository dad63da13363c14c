"""A real aarch64 userland becomes a board: other wheels, another class, the same steps.

It is emulated, so it proves installing and probing on ARM, never speed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from farm.board import Board, Plan
from farm.farm import Farm
from support.cli import Shell

BOOT_S = 180.0


@pytest.fixture
def arm(farm: Farm) -> Iterator[Board]:
    found = farm.boards.get("arm") or farm.add(Plan("arm", "arm64"))
    found.on()
    found.wait_ssh(BOOT_S)
    yield found
    found.cut_power()


@pytest.mark.timeout(1200)
def test_an_aarch64_board_from_nothing_and_back(
    shell: Shell, arm: Board, ssh: Callable[[Board], tuple[str, ...]]
) -> None:
    words = ("device", "add", "arm", *ssh(arm))
    said = shell.fine(*words, limit_s=900)
    assert "arm is recognised as arm64-generic" in said
    assert "onnxruntime 1.31.1 on CPU: fp32, fp16, int8" in said
    (device,) = json.loads(shell.fine("device", "show", "arm", "-o", "json"))
    assert (device["facts"]["machine"], device["connection"]) == ("aarch64", "online")
    assert "changed=0" in shell.fine(*words)
    shell.fine("device", "retire", "arm")
    assert arm.inside("ls /opt") == ""
