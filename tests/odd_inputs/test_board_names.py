"""Another name for a board: given, and refused, through the command line."""

from __future__ import annotations

from orchestrator.client import Client
from orchestrator.settings import Settings
from support.cli import Shell


def test_a_board_that_joined_by_a_token_is_told_how_it_gets_its_new_name(
    fleet_shell: Shell,
) -> None:
    fleet_shell.fine("device", "join-token", "first-name", "--tag", "shelf=3")
    said = fleet_shell.fine("device", "rename", "first-name", "second-name")
    assert "first-name is second-name now" in said
    assert "benchfarm-agent join http://" in said
    assert said.rstrip().splitlines()[-2].endswith("--name second-name")
    with Client.from_home(Settings(home=fleet_shell.home)) as client:
        assert client.device("second-name").tags == {"shelf": "3"}
        (own,) = [d.name for d in client.devices() if d.connection == "online"]
    for name, to, says in (
        ("first-name", "x", "there is no device 'first-name'"),
        ("second-name", own, f"there is a device {own!r} already"),
        ("second-name", "Big_Name", "expected 1 to 63 of a-z, 0-9 and -"),
        ("second-name", "b" * 80, "expected 1 to 63 of a-z, 0-9 and -"),
        (own, "x", "is this machine's own agent"),
    ):
        assert says in fleet_shell.refused("device", "rename", name, to)
    assert "device_renamed" in fleet_shell.fine("events", "--subject", "first-name")
