"""Differences between a board and its entry in the fleet file. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from orchestrator.provisioning.fleet_file import WantedBoard
from orchestrator.service.views import DeviceView
from playbooks.step_runner import StepEvent

NONE = "-"


class Difference(BaseModel):
    """``what``: ``registered`` (also for boards that the file does not name), ``class``,
    ``tags.KEY``, ``enabled``, a step of the playbook, or ``reached`` (could not be examined)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    what: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.what}: {self.found} → {self.wanted}"


def controller_differences(
    wanted: WantedBoard, device_class: str, view: DeviceView | None
) -> Iterable[Difference]:
    """Differences in the controller's data. ``device_class``: the file's, else the recognised one;
    empty: unknown."""
    if view is None or view.facts is None:
        yield Difference(device=wanted.name, what="registered", found="no", wanted="yes")
        return
    if device_class and view.device_class != device_class:
        yield Difference(
            device=wanted.name, what="class", found=view.device_class, wanted=device_class
        )
    if wanted.tags is not None:
        for key in sorted({*view.tags, *wanted.tags}):
            found, value = view.tags.get(key, NONE), wanted.tags.get(key, NONE)
            if found != value:
                yield Difference(device=wanted.name, what=f"tags.{key}", found=found, wanted=value)
    if wanted.enabled is not None and view.enabled != wanted.enabled:
        yield Difference(
            device=wanted.name,
            what="enabled",
            found=_yes(view.enabled),
            wanted=_yes(not view.enabled),
        )


def board_differences(name: str, events: Iterable[StepEvent]) -> Iterable[Difference]:
    """The steps that a dry run of the playbook would change."""
    for event in events:
        if event.status == "would change":
            yield Difference(device=name, what=event.step, found=event.text, wanted="done")


def extra(views: Iterable[DeviceView], named: Iterable[str]) -> list[DeviceView]:
    """Devices that have joined the farm but are not in the file."""
    known = set(named)
    return [v for v in views if v.facts is not None and v.name not in known]


def _yes(value: bool) -> str:
    return "true" if value else "false"
