"""Checks a sweep's baseline before anything runs: a sweep that compares nothing is refused."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain import baseline
from orchestrator.domain.baseline import Baselines, ComparedCell
from orchestrator.domain.errors import UserError
from orchestrator.domain.matrix import compared
from orchestrator.domain.placement import Placement
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.yaml_file import ParsedYaml


def notes(parsed: ParsedYaml[SweepSpec], placements: Sequence[Placement]) -> list[str]:
    """Which cells will have no speed-up and why, one note a reason.

    Raises:
        UserError: several cells match the baseline where one is needed, or every cell is its own
            baseline; the message says which keys tell them apart.
    """
    wanted = parsed.value.baseline
    if not wanted:
        return []
    planned = [
        compared(str(number), p.device, p.configuration, p.version)
        for number, p in enumerate(placements)
    ]
    cells = [c for c, p in zip(planned, placements, strict=True) if not p.skip]
    names = {str(n): f"{p.configuration.label} on {p.device}" for n, p in enumerate(placements)}
    baselines = Baselines(cells, wanted)
    found = {cell.cell_id: baselines.of(cell) for cell in cells}
    where = f"{parsed.where('baseline')}: baseline: "
    for cell_id, match in found.items():
        if match.missing:
            raise UserError(f"{where}of {names[cell_id]}: {match.reason}")
    if all(baseline.fits(c, key, value) for c in planned for key, value in wanted.items()):
        _refuse_nothing_to_compare(where, wanted, cells)
    reasons: dict[str, list[str]] = {}
    for cell_id, match in found.items():
        if match.reason:
            reasons.setdefault(match.reason, []).append(names[cell_id])
    return [
        f"no speed-up of {cells_[0]}"
        + (f" and {len(cells_) - 1} more" if len(cells_) > 1 else "")
        + f": {reason}"
        for reason, cells_ in reasons.items()
    ]


def _refuse_nothing_to_compare(
    where: str, wanted: dict[str, str], cells: Sequence[ComparedCell]
) -> None:
    """Raise where cells that could be compared are all baselines of themselves."""
    groups: dict[tuple[str, ...], list[ComparedCell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.workload, cell.device), []).append(cell)
    largest = max(groups.values(), key=len, default=[])
    if len(largest) < 2:
        return
    apart = baseline.differences(largest)
    raise UserError(
        f"{where}every cell has {baseline.words(wanted)}, so each would be its own baseline; they "
        f"differ in {baseline.described(apart)}: name {' or '.join(apart)} too"
    )
