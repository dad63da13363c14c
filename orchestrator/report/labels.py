"""Short names for cells, made of what varies in the sweep."""

from __future__ import annotations

from collections.abc import Sequence

from agent.contract.trial import Scenario
from orchestrator.report.inputs import CellData


def workload(scenario: Scenario, batch_size: int) -> str:
    """Scenario, batch size, concurrency and rate as text. Only cells of one workload are compared
    with each other."""
    words = [scenario.kind.replace("_", " "), f"batch {batch_size}"]
    if scenario.concurrency != 1:
        words.append(f"concurrency {scenario.concurrency}")
    if scenario.target_qps:
        words.append(f"{scenario.target_qps:g} queries/s")
    return ", ".join(words)


def labels(cells: Sequence[CellData]) -> dict[str, str]:
    """A label per cell id, unique within one device, model and workload: backend and precision,
    then what else varies in the sweep; equal labels get a number."""
    varying = {
        name: len({getattr(cell, name) for cell in cells}) > 1
        for name in ("version", "target", "threads", "calibration", "format", "via")
    }
    option_names = sorted({name for cell in cells for name in cell.options})
    changing = [n for n in option_names if len({str(cell.options.get(n)) for cell in cells}) > 1]
    made = {cell.cell_id: _label(cell, varying, changing) for cell in cells}
    seen: dict[tuple[str, ...], int] = {}
    for cell in cells:
        load = workload(cell.scenario, cell.batch_size)
        key = (cell.device, cell.model, load, made[cell.cell_id])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            made[cell.cell_id] += f" #{seen[key]}"
    return made


def _label(cell: CellData, varying: dict[str, bool], options: Sequence[str]) -> str:
    backend = cell.backend
    if varying["version"] and cell.version:
        backend += f" {cell.version}"
    words = [backend]
    if varying["target"]:
        words.append(cell.target)
    words.append(cell.precision)
    if varying["threads"]:
        words.append(_threads(cell.threads))
    if cell.calibration == "random":
        words.append("random calibration")
    words += [cell.format] if varying["format"] and cell.format else []
    words += [f"via {cell.via}"] if varying["via"] and cell.via else []
    words += [f"{name}={cell.options[name]}" for name in options if name in cell.options]
    return " ".join(words)


def _threads(count: int) -> str:
    if not count:
        return "default threads"
    return f"{count} thread" if count == 1 else f"{count} threads"
