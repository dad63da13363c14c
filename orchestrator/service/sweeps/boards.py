"""The boards of a sweep: which can be given work now, which are left out, and which are missed.

A board is left out where none of its cells runs. It is missed where an earlier sweep with the same
``devices`` ran on it, and this one does not select it: a tag was lost, or the board is retired.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.domain.health import ILL, Health
from orchestrator.domain.placement import Placement, PlacementDevice, out_of_service
from orchestrator.domain.spec import SweepSpec
from orchestrator.service.context import FarmContext
from orchestrator.service.device_state import facts_of, online, retired
from orchestrator.service.views import PlannedBoard
from orchestrator.store.tables import SWEEP, Cell, Device, Sweep

LONGEST_LIST = 3
"""Reasons that are written out for one board."""


def placement_device(device: Device) -> PlacementDevice:
    """What placement needs to know of a device's row."""
    facts = facts_of(device)
    return PlacementDevice(
        name=device.name,
        labels={**device.tags, "name": device.name, "class": device.device_class},
        enabled=device.enabled,
        runtimes=facts.runtimes if facts else (),
        tools=facts.tools if facts else (),
        machine=facts.machine if facts else "",
        drain_note=device.drain_note,
        retired=retired(device),
    )


def hold_reason(device: Device) -> str:
    """Why a device in quarantine or maintenance gets no trials; empty where it is in neither."""
    if device.health == Health.MAINTENANCE:
        return "in maintenance"
    if device.health in ILL:
        return f"quarantined: {'; '.join(device.health_reasons)}"
    return ""


def not_ready(farm: FarmContext, device: Device) -> str:
    """Why a device would not begin a trial now; empty where it would."""
    out = out_of_service(placement_device(device))
    if out:
        return out.removeprefix("the device ")
    if not online(farm, device.seen_at):
        return "is offline"
    return hold_reason(device)


def planned_boards(
    farm: FarmContext, rows: Iterable[Device], placements: Sequence[Placement]
) -> list[PlannedBoard]:
    """Each board of a plan, by name: how many of its cells run, and what keeps it from them."""
    cells: dict[str, list[Placement]] = defaultdict(list)
    for placement in placements:
        cells[placement.device].append(placement)
    by_name = {device.name: device for device in rows}
    return [
        PlannedBoard(
            device=name,
            cells=sum(1 for p in of_board if not p.skip),
            left_out=reasons([p.skip for p in of_board]) if all(p.skip for p in of_board) else "",
            not_ready=not_ready(farm, by_name[name]),
        )
        for name, of_board in sorted(cells.items())
    ]


def reasons(skips: Iterable[str]) -> str:
    """The distinct reasons in their order, the first few written out."""
    found = list(dict.fromkeys(skip for skip in skips if skip))
    more = len(found) - LONGEST_LIST
    listed = "; ".join(found[:LONGEST_LIST])
    return listed + (f"; and {more} more reasons" if more > 0 else "")


def missed(
    session: Session, spec: SweepSpec, rows: Iterable[Device], selected: Iterable[str]
) -> dict[str, str]:
    """Board → why it is not selected although the last sweep with the same ``devices.select`` had
    it. Empty for a sweep that selects no boards by label."""
    wanted = spec.devices.select
    if not wanted:
        return {}
    earlier = _last_sweep_with(session, spec)
    if earlier is None:
        return {}
    had = session.scalars(
        select(Device.name)
        .join(Cell, Cell.device_id == Device.id)
        .where(Cell.sweep_id == earlier.id, Cell.build_key == "")
        .distinct()
    )
    by_name = {device.name: device for device in rows}
    return {
        name: f"was in sweep {earlier.name}, and {_why_not(by_name.get(name), wanted)}"
        for name in sorted(set(had) - set(selected))
    }


def _last_sweep_with(session: Session, spec: SweepSpec) -> Sweep | None:
    same = spec.devices.model_dump(mode="json")
    query = select(Sweep.id, Sweep.spec).where(Sweep.kind == SWEEP, Sweep.name != spec.name)
    for sweep_id, stored in session.execute(query.order_by(Sweep.id.desc())):
        if stored.get("devices") == same:
            return session.get(Sweep, sweep_id)
    return None


def _why_not(device: Device | None, wanted: Mapping[str, str]) -> str:
    if device is None:
        return "is no device of the farm any more"
    if retired(device):
        return "is retired"
    labels = {**device.tags, "name": device.name, "class": device.device_class}
    other = [f"{k}={labels.get(k, '')}" for k, v in wanted.items() if labels.get(k) != v]
    return f"has {', '.join(other)} now" if other else "is not named"
