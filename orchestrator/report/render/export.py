"""The report as CSV (one line per cell) and JSON, units in the column names."""

from __future__ import annotations

import csv
import io
import json

from orchestrator.report.schema import CellRow, Estimate, SweepReport

IDENTITY = (
    "cell_id", "model", "workload", "device", "device_class", "label", "backend", "version",
    "runtime_version", "target", "precision", "threads", "batch_size", "calibration", "placement",
    "status", "status_note",
)  # fmt: skip
ESTIMATES = (
    "p50_ms", "p90_ms", "p99_ms", "mean_ms", "runtime_p50_ms", "inferences_per_second",
    "import_s", "load_cold_ms", "load_warm_ms", "first_inference_ms",
)  # fmt: skip
SCALARS = (
    "min_ms", "max_ms", "stdev_ms", "cv", "mad_ms", "convert_s", "overhead_s", "peak_rss_mib",
    "cpu_percent", "artifact_size_mib", "source_size_mib", "top1", "reference_top1",
    "accuracy_passed", "rank", "rank_overall", "tied", "pareto", "rank_reason",
)  # fmt: skip
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_json(report: SweepReport) -> str:
    """The whole report, indented; ``SweepReport.model_validate_json`` reads it back unchanged."""
    return report.model_dump_json(indent=2)


def to_csv(report: SweepReport) -> str:
    """One line per cell; an estimate takes three columns (``p50_ms``, ``p50_low_ms``, …).

    Empty: unknown. A text that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    lines = [flat(row) for row in report.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def columns() -> list[str]:
    """The CSV's header."""
    names = [*IDENTITY, "trials_measured", "trials_planned", "samples"]
    for name in ESTIMATES:
        names += _triple(name)
    names += [*SCALARS, *_triple("speed_up"), "speed_up_verdict", "speed_up_baseline_cell"]
    names += [f"fidelity_{n}" for n in ("max_abs", "max_rel", "cosine", "psnr_db", "passed")]
    return [*names, "trust", "trust_reasons", "failure_stage", "failure_kind", "failure_message",
            "failure_fault", "options"]  # fmt: skip


def _triple(name: str) -> list[str]:
    """``p50_ms`` → ``p50_ms, p50_low_ms, p50_high_ms``: the unit stays last."""
    stem, _, unit = name.rpartition("_")
    if unit not in ("ms", "s"):
        return [name, f"{name}_low", f"{name}_high"]
    return [name, f"{stem}_low_{unit}", f"{stem}_high_{unit}"]


def flat(row: CellRow) -> dict[str, object]:
    """A row as the CSV's columns; ``None`` where unknown."""
    found: dict[str, object] = {name: getattr(row, name) for name in (*IDENTITY, *SCALARS)}
    found |= {n: getattr(row, n) for n in ("trials_measured", "trials_planned", "samples")}
    for name in ESTIMATES:
        found |= _estimate(name, getattr(row, name))
    if row.speed_up is not None:
        found |= _estimate("speed_up", row.speed_up.estimate)
        found["speed_up_verdict"] = row.speed_up.verdict
        found["speed_up_baseline_cell"] = row.speed_up.baseline_cell
    for name in ("max_abs", "max_rel", "cosine", "psnr_db", "passed"):
        found[f"fidelity_{name}"] = getattr(row.fidelity, name) if row.fidelity else None
    found["trust"], found["trust_reasons"] = row.trust.verdict, "; ".join(row.trust.reasons)
    for name in ("stage", "kind", "message", "fault"):
        found[f"failure_{name}"] = getattr(row.failure, name) if row.failure else None
    found["options"] = json.dumps(row.options, sort_keys=True) if row.options else None
    return {name: _safe(value) for name, value in found.items()}


def _estimate(name: str, figure: Estimate) -> dict[str, object]:
    return dict(zip(_triple(name), (figure.value, figure.low, figure.high), strict=True))


def _safe(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return "'" + value
    return value
