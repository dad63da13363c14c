"""What differs between a board and what the file says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from orchestrator.provisioning.fleet_file import WantedBoard
from orchestrator.service.views import DeviceView
from playbooks.step_runner import StepEvent

NONE = "-"


class Difference(BaseModel):
    """``what``: ``registered`` (also of one that the file does not name), ``class``, ``tags.KEY``,
    ``enabled``, a step of the playbook, or ``reached`` (the board could not be looked at)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    what: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.what}: {self.found} → {self.wanted}"


def at_controller(
    wanted: WantedBoard, device_class: str, view: DeviceView | None
) -> Iterable[Difference]:
    """Of what the controller keeps. ``device_class``: the file's, else as recognised; empty: not
    known."""
    if view is None or view.facts is None:
        yield Difference(device=wanted.name, what="registered", found="no", wanted="yes")
        return
    if device_class and view.device_class != device_class:
        yield Difference(
            device=wanted.name, what="class", found=view.device_class, wanted=device_class
        )
    if wanted.tags is not None:
        for key in sorted({*view.tags, *wanted.tags}):
            found, said = view.tags.get(key, NONE), wanted.tags.get(key, NONE)
            if found != said:
                yield Difference(device=wanted.name, what=f"tags.{key}", found=found, wanted=said)
    if wanted.enabled is not None and view.enabled != wanted.enabled:
        yield Difference(
            device=wanted.name,
            what="enabled",
            found=_yes(view.enabled),
            wanted=_yes(not view.enabled),
        )


def on_board(name: str, events: Iterable[StepEvent]) -> Iterable[Difference]:
    """Of what a dry run of the playbook would change there."""
    for event in events:
        if event.status == "would change":
            yield Difference(device=name, what=event.step, found=event.text, wanted="done")


def extra(views: Iterable[DeviceView], named: Iterable[str]) -> list[DeviceView]:
    """Devices that have joined the farm and that the file does not name."""
    known = set(named)
    return [v for v in views if v.facts is not None and v.name not in known]


def _yes(value: bool) -> str:
    return "true" if value else "false"
