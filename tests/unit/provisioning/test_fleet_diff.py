"""Drift: what the controller keeps, what a dry run would do, and boards that nobody named."""

from __future__ import annotations

from typing import Any

from orchestrator.provisioning.diff import board_differences, controller_differences, extra
from orchestrator.provisioning.fleet_file import WantedBoard
from orchestrator.service.views import DeviceView
from playbooks.step_runner import StepEvent


def view(name: str = "one", **other: Any) -> DeviceView:
    given: dict[str, Any] = {
        **{"name": name, "device_class": "raspberry-pi", "tags": {"rack": "1", "old": "x"}},
        **{"enabled": True, "connection": "online", "health": "good", "agent_version": "1"},
        **{"seen_at": None, "facts": {}, "runtimes": []},
    }
    return DeviceView(**{**given, **other})


def found(
    wanted: WantedBoard, device_class: str = "", view: DeviceView | None = None
) -> list[tuple[str, str, str]]:
    return [(d.what, d.found, d.wanted) for d in controller_differences(wanted, device_class, view)]


def test_what_the_file_does_not_say_is_no_drift() -> None:
    assert found(WantedBoard("one", "h"), "", view()) == []


def test_class_tags_and_wish() -> None:
    wanted = WantedBoard("one", "h", tags={"rack": "2", "new": "y"}, enabled=False)
    assert found(wanted, "arm64-generic", view()) == [
        ("class", "raspberry-pi", "arm64-generic"),
        ("tags.new", "-", "y"),
        ("tags.old", "x", "-"),
        ("tags.rack", "1", "2"),
        ("enabled", "true", "false"),
    ]
    same = WantedBoard("one", "h", tags={"rack": "1", "old": "x"}, enabled=True)
    assert found(same, "raspberry-pi", view()) == []


def test_a_board_that_never_joined_or_was_retired_is_not_registered() -> None:
    wanted = WantedBoard("one", "h", tags={})
    assert found(wanted, "x") == [("registered", "no", "yes")]
    assert found(wanted, "x", view(facts=None)) == [("registered", "no", "yes")]


def test_steps_that_would_change() -> None:
    events = [StepEvent("user", "ok", ""), StepEvent("agent", "would change", "an older agent")]
    assert [(d.what, d.found) for d in board_differences("one", events)] == [
        ("agent", "an older agent")
    ]


def test_devices_that_the_file_does_not_name() -> None:
    views = [view("one"), view("two"), view("retired", facts=None)]
    assert [v.name for v in extra(views, ["one", "three"])] == ["two"]
