"""What a report claims, and what makes a claim provisional.

Every output that says "fastest", and each that says what speed-ups are relative to, takes the words
from here, so that none of them can leave the caveat out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.domain import baseline
from orchestrator.report import number_format
from orchestrator.report.schema import CellRow, ModelGroup, SweepReport, Winner
from orchestrator.report.statistics.ranking import why_unranked
from orchestrator.report.statistics.speed_ups import compared


def row_caveats(row: CellRow) -> tuple[str, ...]:
    """Why the figures of a measured cell are provisional; empty: nothing is known against them."""
    if not row.trials_measured:
        return ()
    found: list[str] = []
    if row.trust.verdict != "steady":
        found += row.trust.reasons or (number_format.words(row.trust.verdict),)
    if row.fidelity is None:
        found.append("outputs were not verified")
    elif not row.fidelity.passed:
        found.append("outputs differ from the FP32 reference")
    else:
        found += row.fidelity.notes
    if row.accuracy_remark:
        found.append(row.accuracy_remark)
    if row.calibration == "random":
        found.append("quantised on random inputs")
    if row.p50_ms.value is not None and row.p50_ms.low is None:
        found.append(row.p50_ms.reason)
    return tuple(found)


def caveats(winner: Winner, rows: Sequence[CellRow]) -> tuple[str, ...]:
    """Why the claim that a cell is the fastest of ``rows`` is provisional; empty: it is not.

    ``rows``: those of its model and workload. The baseline's own caveats count where the claim
    holds a speed-up.
    """
    by_id = {row.cell_id: row for row in rows}
    first = by_id[winner.cell_id]
    found = list(row_caveats(first))
    speed_up = first.speed_up
    if speed_up is not None and speed_up.verdict in ("faster", "slower"):
        base = by_id.get(speed_up.baseline_cell)
        found += [f"the baseline: {text}" for text in (row_caveats(base) if base else ())]
    rivals = [row for row in rows if winner.device in ("", row.device)]
    if waiting := sum(row.status == "pending" for row in rivals):
        found.append(f"{waiting} of {len(rivals)} cells have no result yet")
    return tuple(found)


def caveat(report: SweepReport, group: ModelGroup, winner: Winner) -> str:
    """``provisional: 5 of 5 trials interfered: …``, or empty."""
    found = caveats(winner, report.rows_of(group))
    return f"provisional: {'; '.join(found)}" if found else ""


def claim(report: SweepReport, group: ModelGroup) -> str:
    """The fastest ranked configuration of a model, its latency, its speed-up and its ties, in one
    sentence; ``caveat`` belongs beside it."""
    if group.winner is None:
        why = no_winner(report.rows_of(group))
        return f"{group.model}: no configuration may be recommended: {why}."
    row = report.row(group.winner.cell_id)
    text = f"{group.model}: fastest is {row.label} on {row.device}, "
    text += f"p50 {number_format.point(row.p50_ms)}"
    text += f" ms {number_format.interval(row.p50_ms)}".rstrip()
    if row.speed_up is not None and row.speed_up.verdict in ("faster", "slower"):
        text += f", {number_format.speed_up(row)} against {row.speed_up.baseline_label}"
    if group.winner.tied_with:
        tied = [report.row(cell_id) for cell_id in group.winner.tied_with]
        text += "; not shown to differ from " + ", ".join(f"{r.label} on {r.device}" for r in tied)
    return text + "."


def whole_claim(report: SweepReport, group: ModelGroup) -> str:
    """``claim`` with its caveat."""
    found = caveat(report, group, group.winner) if group.winner else ""
    return (
        f"{claim(report, group)} {found[0].upper()}{found[1:]}." if found else claim(report, group)
    )


def no_winner(rows: Sequence[CellRow]) -> str:
    """Why none of a group's cells may be called the fastest, with the number of cells."""
    measured = [row for row in rows if row.trials_measured]
    if not measured:
        return "nothing was measured"
    counted = Counter(why_unranked(row) for row in measured)
    if len(counted) == 1:
        return next(iter(counted))
    return "; ".join(f"{why} ({count} of {len(rows)} cells)" for why, count in counted.items())


def baseline_line(wanted: Mapping[str, str], rows: Sequence[CellRow]) -> str:
    """What speed-ups are relative to: the keys that the sweep names, what they led to where it left
    a choice, and in what each row is compared with a cell of its own kind."""
    if not wanted:
        return "baseline: none named in the sweep, so there are no speed-ups"
    ids = {row.speed_up.baseline_cell for row in rows if row.speed_up}
    cells = [row for row in rows if row.cell_id in ids]
    line = f"baseline: {baseline.words(wanted)}"
    if not cells:
        return f"{line}; no row could be compared with it"
    apart = baseline.differences([compared(row) for row in cells])
    shared = _shared(wanted, cells, apart)
    line += f" ({', '.join(shared)})" if shared else ""
    own = [f"{k} ({', '.join(v)})" for k, v in apart.items() if k not in (*wanted, "device")]
    own = (["device"] if "device" in apart and "device" not in wanted else []) + own
    return line + (f"; not named, so as in each row: {', '.join(own)}" if own else "")


def _shared(
    wanted: Mapping[str, str], cells: Sequence[CellRow], apart: Mapping[str, Sequence[str]]
) -> list[str]:
    """What all baseline cells have in common beyond the keys that the sweep names."""
    row = cells[0]
    versions = {cell.runtime_version or cell.version for cell in cells} - {""}
    known = {
        "version": f"{row.backend} {versions.pop()}" if len(versions) == 1 else "",
        "precision": row.precision,
        "target": row.target,
        "threads": f"{row.threads} threads" if row.threads else "the runtime's default threads",
        "device": f"on {row.device}",
    }
    return [text for key, text in known.items() if text and key not in wanted and key not in apart]
