"""The raw samples of one cell, for people who want to compute with them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.contract import codec
from agent.contract.trial import TrialResult
from orchestrator.domain.errors import Conflict, UserError
from orchestrator.report.inputs import TrialData
from orchestrator.report.sample_table import SampledTrial, records
from orchestrator.service.context import FarmContext
from orchestrator.service.sweeps.report_data import frozen_event
from orchestrator.service.trials.samples import decode
from orchestrator.store.tables import SWEEP, Attempt, Cell, Sweep, Trial


def cell_samples(farm: FarmContext, cell_id: int) -> NDArray[Any]:
    """The samples of every accepted result of a cell (``report.sample_table``).

    Raises:
        UserError: there is no such cell, or it has no samples; the message says why.
        Conflict: its samples were pruned.
        DamagedSamples: a blob does not decode.
    """
    with farm.database.read_session() as session:
        cell = _find(session, cell_id)
        rows = session.execute(
            select(Trial, Attempt)
            .join(Attempt, Attempt.trial_id == Trial.id)
            .where(Trial.cell_id == cell.id, Attempt.accepted)
            .order_by(Trial.number, Attempt.number)
        ).all()
        found = [
            (t.id, t.number, a.number, codec.from_plain(TrialResult, a.result))
            for t, a in rows
            if a.result
        ]
        pruned = frozen_event(session, cell.sweep)
        described = f"cell {cell_id} ({cell.configuration['label']} on {cell.device.name})"
        skip = cell.skip
    if pruned is not None:
        raise Conflict(
            f"{described}: its samples were pruned on {pruned.at:%Y-%m-%d}; its figures are in "
            f"`benchfarm report {pruned.subject}`"
        )
    trials = [
        SampledTrial(
            trial_id,
            TrialData(
                number,
                attempt,
                result,
                decode(result.samples, farm.blobs.read(result.samples.sha256)),
            ),
        )
        for trial_id, number, attempt, result in found
        if result.samples is not None and result.samples.sha256
    ]
    if not trials:
        statuses = ", ".join(sorted({result.status for *_, result in found}))
        why = f"it was skipped: {skip}" if skip else f"no trial took any ({statuses or 'not run'})"
        raise UserError(f"{described} has no samples: {why}")
    return records(cell_id, trials)


def _find(session: Session, cell_id: int) -> Cell:
    cell = session.scalar(
        select(Cell)
        .join(Sweep, Cell.sweep_id == Sweep.id)
        .where(Cell.id == cell_id, Sweep.kind == SWEEP, Cell.build_key == "")
    )
    if cell is None:
        raise UserError(
            f"there is no cell {cell_id}; the column “cell” of `benchfarm report SWEEP` has the "
            "numbers"
        )
    return cell
