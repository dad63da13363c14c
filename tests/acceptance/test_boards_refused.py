"""``device add`` and ``retire`` that are refused before any board is contacted."""

from __future__ import annotations

import json

from support.cli import Shell

ADD = ("device", "add", "far", "--ssh", "nobody@192.0.2.1")


def test_a_controller_that_no_board_reaches_is_said(shell: Shell) -> None:
    assert "boards cannot reach the controller at http://127.0.0.1" in shell.refused(*ADD)
    refusal = shell.refused(*ADD, "--controller-url", "http://farm.example:8470")
    assert "message broker answers on its own machine alone" in refusal
    assert "BENCHFARM_BROKER_URL" in refusal
    devices = json.loads(shell.fine("device", "list", "-o", "json"))
    assert [d["name"] for d in devices] == ["bench"]


def test_what_cannot_be_a_board_is_refused(shell: Shell) -> None:
    assert "how is far reached? give --ssh" in shell.refused("device", "add", "far")
    assert "there is no device 'far'; known: bench" in shell.refused("device", "retire", "far")
