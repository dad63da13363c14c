"""Planning a sweep's skipped cells again: the reason of each may have passed meanwhile.

A cell is skipped for what held when its sweep was submitted: its board was drained, retired or had
not reported, lacked a runtime or a tool, or the model a format. Whatever the reason was, the cell
is placed as a new sweep would place it. Boards that the sweep did not have are not added: its
cells are what was asked for on that day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from orchestrator.domain.matrix import Configuration
from orchestrator.domain.placement import Placement
from orchestrator.domain.spec import SweepSpec
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps import cells
from orchestrator.store.tables import Cell, Device, Sweep

Placer = Callable[[Device, Configuration], Placement]
"""Places a configuration on a device as it is now."""

SAME_AS_OTHER = "the same runtime version as another cell of this sweep"


def replan(session: Session, sweep: Sweep, place: Placer) -> list[tuple[Cell, Placement]]:
    """The sweep's skipped cells, each with its placement as of now. Changes nothing."""
    rows = session.execute(
        select(Cell, Device)
        .join(Device, Cell.device_id == Device.id)
        .where(Cell.sweep_id == sweep.id, Cell.skip != "", Cell.build_key == "")
        .order_by(Cell.id)
        .execution_options(populate_existing=True)
    ).all()
    if not rows:
        return []
    taken = _running(session, sweep)
    found = []
    for cell, device in rows:
        placement = place(device, cells.configuration_of(cell))
        if not placement.skip:
            key = _key(device.id, placement)
            if key in taken:  # two versions of the spec may select one version of the device
                placement = replace(placement, skip=SAME_AS_OTHER)
            taken.add(key)
        found.append((cell, placement))
    return found


def write(
    farm: FarmContext,
    session: Session,
    sweep: Sweep,
    spec: SweepSpec,
    replanned: Sequence[tuple[Cell, Placement]],
) -> int:
    """Fill the cells that can run now, and update the others' reasons; returns how many run.

    The caller has called ``transitions.lock_sweep``.
    """
    runs = [(cell, placement) for cell, placement in replanned if not placement.skip]
    for cell, placement in replanned:
        if placement.skip:
            cell.skip = placement.skip
    if runs:
        cells.fill_cells(farm, session, sweep, spec, runs)
    return len(runs)


def _running(session: Session, sweep: Sweep) -> set[str]:
    query = select(Cell).where(Cell.sweep_id == sweep.id, Cell.skip == "", Cell.build_key == "")
    return {repr((cell.device_id, cells.configuration_of(cell))) for cell in session.scalars(query)}


def _key(device_id: int, placement: Placement) -> str:
    version = placement.version or placement.configuration.version
    # compared by repr: in Python True == 1 == 1.0, but as a runtime's options they differ
    return repr((device_id, replace(placement.configuration, version=version)))
