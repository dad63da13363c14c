"""Every column of a report, declared once, in the order of the CSV.

Terminal, Markdown, CSV, HTML and ``docs/report-columns.md`` are made from ``COLUMNS``; JSON has the
same names. To add a column, add a row here and write its estimator: a function over a cell's
measured trials, as those in ``statistics/estimates.py``. It needs no field in ``schema.CellRow``,
which accepts additional figures; a field is declared there for figures that code reads by name.

Two things are generated and follow by a command: ``python -m orchestrator.report.columns >
docs/report-columns.md``, and the stored outputs of ``tests/unit/report/test_report_golden.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import EllipsisType
from typing import Any

from orchestrator.report import cell_status, converted, number_format
from orchestrator.report.column import Column, Place, Shown, documentation
from orchestrator.report.number_format import (
    NOTHING,
    compact,
    milliseconds,
    number,
    percent,
    point,
    point_or_reason,
    point_with_interval,
)
from orchestrator.report.schema import CellRow, Estimate
from orchestrator.report.statistics import estimates as est

SPECIFICATION = "Set by the sweep's specification."
DEVICE = "Reported by the device with its results."
RESULTS = "From the states and results of all trials of the cell."
COMPARISON = "By comparison with the other cells of the sweep."

ORDER: Mapping[Place, tuple[str | EllipsisType, ...]] = {
    "terminal": (
        "rank", "label", "p50_ms", "p99_ms", "inferences_per_second", "speed_up", "top1",
        "fidelity_criterion", "not_comparable", "precision_macs", "peak_rss_mib", ..., "cell_id",
        "status",
    ),
    "markdown": (
        "device", "rank", "label", "p50_ms", "p90_ms", "p99_ms", "inferences_per_second",
        "speed_up", "top1", "fidelity_criterion", "not_comparable", "precision_macs",
        "peak_rss_mib", "load_cold_ms", ..., "trials_measured", "cell_id", "status",
    ),
    "html": (
        "rank", "label", "status", "p50_ms", "p90_ms", "p99_ms", "inferences_per_second",
        "speed_up", "top1", "fidelity_criterion", "not_comparable", "precision_macs",
        "peak_rss_mib", "load_cold_ms", "first_inference_ms", "artifact_size_mib", ...,
    ),
    "details": (
        "cell_id", "backend", "runtime_version", "target", "placement", "precision",
        "precision_operators", "precision_weights", "precision_macs", "source_stored", "threads",
        "batch_size", "environment", "options", "calibration", "samples", "mean_ms",
        "runtime_p50_ms", "min_ms", "stdev_ms", "mad_ms", "cv", "import_s", "load_cold_ms",
        "load_warm_ms", "first_inference_ms", "convert_s", "overhead_s", "cpu_percent",
        "artifact_size_mib", ...,
        "fidelity_passed", "fidelity_criterion", "fidelity_cosine", "fidelity_max_abs",
        "fidelity_max_rel", "fidelity_psnr_db", "not_comparable", "accuracy_remark", "speed_up",
        "speed_up_reason", "speed_up_q_value", "telemetry", "absent",
    ),
}  # fmt: skip
"""Order of the columns in each place; columns that it does not name stand at the ellipsis."""


def measured(rows: Sequence[CellRow]) -> bool:
    return any(row.trials_measured for row in rows)


def verified(rows: Sequence[CellRow]) -> bool:
    return any(row.fidelity for row in rows)


def partly_comparable(rows: Sequence[CellRow]) -> bool:
    return any(row.not_comparable for row in rows)


def _several(names: Sequence[str]) -> str:
    return ", ".join(names) or NOTHING


def has_top1(rows: Sequence[CellRow]) -> bool:
    return any(row.top1 is not None for row in rows)


def has_no_top1(rows: Sequence[CellRow]) -> bool:
    return not has_top1(rows)


def tested(rows: Sequence[CellRow]) -> bool:
    return any(row.speed_up and row.speed_up.q_value is not None for row in rows)


def _or_nothing(text: str) -> str:
    return text or NOTHING


def _version(row: CellRow) -> str:
    return row.runtime_version or row.version or NOTHING


def _trials(row: CellRow) -> str:
    return f"{row.trials_measured}/{row.trials_planned}"


def _range(row: CellRow) -> str:
    return f"{milliseconds(row.min_ms, row)} / {milliseconds(row.max_ms, row)}"


def _sizes(row: CellRow) -> str:
    return f"{number(row.artifact_size_mib)} / {number(row.source_size_mib)}"


def _absent(found: Mapping[str, str]) -> dict[str, str]:
    return {f"no {name}": why for name, why in found.items()}


def _psnr(value: float | None) -> str:
    return "∞ (identical)" if value is None else number(value)


def _latency(read: Callable[[CellRow], float | None]) -> Shown:
    """Details of a latency without an interval, whose digits depend on the row's clock."""
    return Shown(lambda row: milliseconds(read(row), row), whole_row=True, when=measured)


def _figure(title: str = "") -> Shown:
    """Details of a figure of measured cells: value and interval, or why there is none."""
    return Shown(point_or_reason, title, when=measured)


CONVERTED = Shown(converted.in_words, "Converted", whole_row=True, when=converted.is_partial)
"""In tables: only where a row's network is not wholly in its precision."""

COLUMNS: Sequence[Column] = (
    Column("cell_id", "cell",
           "Identifier of the cell, one configuration on one device in one sweep: what "
           "`benchfarm samples` takes.", SPECIFICATION, terminal=Shown(), markdown=Shown(),
           details=Shown()),
    Column("model", "model", "Name of the model.", SPECIFICATION),
    Column("workload", "workload",
           "Scenario, batch size and concurrency; only cells of one workload are compared.",
           SPECIFICATION),
    Column("device", "Device", "Name of the device.", SPECIFICATION, text=True, markdown=Shown()),
    Column("device_class", "device class", "Class of the device.", SPECIFICATION),
    Column("label", "Configuration",
           "Short name of the configuration: runtime, precision and whatever else varies in the "
           "sweep.", COMPARISON, text=True, terminal=Shown(min_width=16), markdown=Shown(),
           html=Shown(macro="label")),
    Column("backend", "backend", "Runtime that ran the model.", SPECIFICATION, details=Shown()),
    Column("version", "requested version",
           "Version of the runtime that the sweep names; empty: any.", SPECIFICATION),
    Column("runtime_version", "runtime version", "Version of the runtime that ran.", DEVICE,
           details=Shown(_version, whole_row=True)),
    Column("target", "target", "Part of the device that the runtime was told to use, e.g. CPU.",
           SPECIFICATION, details=Shown()),
    Column("precision", "precision", "Numeric precision of the model: fp32, fp16, bf16, int8; of a "
           "file that is run as it is also fp8 and int4.", SPECIFICATION, details=Shown()),
    Column("precision_operators", "operators in it",
           "Share of the network's operators that the conversion brought into that precision.",
           converted.precision_share, path="precision_share.operators",
           details=Shown(percent, "operators in that precision", when=converted.has_share)),
    Column("precision_weights", "weights in it",
           "Share of the network's weights that the conversion brought into that precision.",
           converted.precision_share, path="precision_share.weights",
           details=Shown(percent, "weights in that precision", when=converted.has_share)),
    Column("precision_macs", "MACs in it",
           "Share of the network's multiply-accumulates in operators that the conversion brought "
           "into that precision; tables show it, else the share of weights, where one is not all.",
           converted.precision_share, path="precision_share.macs",
           terminal=CONVERTED,
           markdown=CONVERTED,
           html=CONVERTED,
           details=Shown(percent, "MACs in that precision", when=converted.has_share)),
    Column("source_stored", "source file",
           "What the source file holds where its precision does not say it: how it is quantised, "
           "types of weights and activations.", SPECIFICATION,
           details=Shown(when=lambda rows: any(row.source_stored for row in rows))),
    Column("threads", "threads", "Number of threads that the runtime may use; 0: its default.",
           SPECIFICATION, details=Shown(lambda count: str(count or "runtime’s default"))),
    Column("batch_size", "batch size", "Samples per inference.", SPECIFICATION, details=Shown()),
    Column("calibration", "calibration",
           "Where the data came from that int8 was calibrated with; random: no data.",
           SPECIFICATION, details=Shown(when=lambda rows: any(row.calibration for row in rows))),
    Column("placement", "ran on",
           "Where the runtime says that the model ran, e.g. its execution provider.", DEVICE,
           details=Shown(_or_nothing)),
    Column("status", "Verdict",
           "Whether the cell has figures that may be ranked (ok), or why not. People are shown "
           "the trust verdict where it is ok.", RESULTS, text=True,
           terminal=Shown(number_format.verdict, whole_row=True, min_width=15),
           markdown=Shown(number_format.verdict, whole_row=True), html=Shown(macro="verdict")),
    Column("status_note", "note", "A sentence that explains the status.", RESULTS),
    Column("trials_measured", "Trials", "Trials with usable samples.", RESULTS,
           markdown=Shown(_trials, whole_row=True)),
    Column("trials_planned", "planned trials",
           "Trials that the sweep asks for, each a fresh process.", SPECIFICATION),
    Column("samples", "samples", "Latency samples of all measured trials.", RESULTS,
           details=Shown(lambda count: f"{count:,}", when=measured)),
    Column("p50_ms", "p50", "Median latency that the caller of the runtime saw.",
           partial(est.percentile_ms, q=50), unit="ms", interval=True, terminal=Shown(compact),
           markdown=Shown(point_with_interval), html=Shown(macro="key_figure")),
    Column("p90_ms", "p90", "90th percentile of the latency that the caller of the runtime saw.",
           partial(est.percentile_ms, q=90), unit="ms", interval=True,
           markdown=Shown(point_with_interval), html=Shown(macro="figure")),
    Column("p99_ms", "p99", "99th percentile of the latency that the caller of the runtime saw.",
           partial(est.percentile_ms, q=99), unit="ms", interval=True, terminal=Shown(point),
           markdown=Shown(point_with_interval), html=Shown(macro="figure")),
    Column("mean_ms", "mean", "Mean latency that the caller of the runtime saw.", est.mean_ms,
           unit="ms", interval=True, details=_figure()),
    Column("runtime_p50_ms", "runtime’s own p50",
           "Median latency by the runtime's own clock, where it has one.",
           partial(est.percentile_ms, q=50, series="runtime"), unit="ms", interval=True,
           details=_figure()),
    Column("inferences_per_second", "throughput",
           "Inferences per second, counting every sample of a batch.", est.throughput, unit="1/s",
           interval=True, terminal=Shown(lambda figure: number(figure.value), "inf/s"),
           markdown=Shown(point_with_interval, "Inferences/s"),
           html=Shown(title="Inferences\n/s", macro="figure")),
    Column("import_s", "import", "Time that importing the runtime took.",
           partial(est.phase, name="import_s", unit="s"), unit="s", interval=True,
           details=_figure()),
    Column("load_cold_ms", "Load cold", "Time of the first load of the model in a fresh process.",
           partial(est.phase, name="load_cold_s", unit="ms", scale=1000), unit="ms", interval=True,
           markdown=Shown(point), html=Shown(point, "Cold load\nms"),
           details=_figure("load, cold (ms)")),
    Column("load_warm_ms", "load, warm", "Time of a second load of the model in the same process.",
           partial(est.phase, name="load_warm_s", unit="ms", scale=1000), unit="ms", interval=True,
           details=_figure()),
    Column("first_inference_ms", "first inference",
           "Latency of the first inference after the load.",
           partial(est.phase, name="first_inference_ms", unit="ms"), unit="ms", interval=True,
           html=Shown(point, "First inf.\nms"), details=_figure()),
    Column("min_ms", "min", "Smallest latency sample.", est.min_ms, unit="ms",
           details=Shown(_range, "min / max (ms)", whole_row=True, when=measured)),
    Column("max_ms", "max", "Largest latency sample; the details show it beside the smallest.",
           est.max_ms, unit="ms"),
    Column("stdev_ms", "stdev within a trial", "Standard deviation of the latency within a trial.",
           est.stdev_ms, unit="ms", details=_latency(lambda row: row.stdev_ms)),
    Column("cv", "coefficient of variation",
           "Standard deviation over mean of the latency within a trial, as a ratio.", est.cv,
           details=Shown(percent, when=measured)),
    Column("mad_ms", "MAD within a trial",
           "Median absolute deviation of the latency within a trial.", est.mad_ms, unit="ms",
           details=_latency(lambda row: row.mad_ms)),
    Column("convert_s", "conversion",
           "Time of the conversion to the runtime's format; empty where it was cached.",
           est.convert_s, unit="s", details=Shown(number, when=measured)),
    Column("overhead_s", "overhead per trial",
           "Time of a trial that was neither the runtime's start nor its measuring: fetching, "
           "converting, verifying.", est.median_overhead_s, unit="s",
           details=Shown(number, when=measured)),
    Column("peak_rss_mib", "Peak RSS",
           "Peak resident set size of the measured process since before the load.",
           est.peak_rss_mib, unit="MiB", terminal=Shown(number, "RSS MiB"), markdown=Shown(number),
           html=Shown(number)),
    Column("cpu_percent", "processor use",
           "Processor use during the timed loop; 200 is two cores busy.", est.cpu_percent,
           unit="% of a core", details=Shown(number, when=measured)),
    Column("artifact_size_mib", "artifact size", "Size of the file that the runtime loaded.",
           est.artifact_size_mib, unit="MiB", html=Shown(number, "Size\nMiB"),
           details=Shown(_sizes, "artifact / source (MiB)", whole_row=True, when=measured)),
    Column("source_size_mib", "source size",
           "Size of the registered model file; the details show it beside the artifact's.",
           SPECIFICATION, unit="MiB"),
    Column("top1", "Top-1",
           "Share of held-out samples that are predicted right, as a ratio: by the largest score, "
           "or as the model's task says.",
           cell_status.top1, terminal=Shown(percent, when=has_top1), markdown=Shown(percent),
           html=Shown(when=has_top1, macro="top1")),
    Column("reference_top1", "top-1 of the source",
           "The same share for the source model in FP32; HTML shows it under the cell's.",
           cell_status.reference_top1),
    Column("accuracy_passed", "accuracy passed",
           "Whether the loss of accuracy stayed within the sweep's tolerance in every trial.",
           cell_status.accuracy_passed),
    Column("accuracy_remark", "accuracy, remark",
           "What makes the accuracy doubtful, such as one that is no better than chance.",
           cell_status.accuracy_remark,
           details=Shown(when=lambda rows: any(row.accuracy_remark for row in rows))),
    Column("rank", "#",
           "Place by p50 among the cells of the same model and workload on this device.",
           COMPARISON, terminal=Shown(number_format.rank, whole_row=True),
           markdown=Shown(number_format.rank, whole_row=True), html=Shown(macro="rank")),
    Column("rank_overall", "rank overall", "The same place over all devices.", COMPARISON),
    Column("tied", "tied",
           "Whether the cell is not shown to differ from the first of its rank; = in tables.",
           COMPARISON),
    Column("pareto", "Pareto front",
           "Whether no other cell is at least as good in every objective; ◆ in HTML.", COMPARISON),
    Column("rank_reason", "why not ranked", "Why the cell has no rank.", COMPARISON),
    Column("speed_up", "Speed-up",
           "Latency of the baseline over that of the cell; above 1 is faster.", COMPARISON,
           path="speed_up.estimate", interval=True,
           terminal=Shown(number_format.speed_up_compact, whole_row=True),
           markdown=Shown(number_format.speed_up, whole_row=True),
           html=Shown(macro="speed_up"), details=Shown(point_or_reason, "speed-up", when=tested)),
    Column("speed_up_verdict", "speed-up verdict",
           "Whether the speed-up is shown to differ from 1.", COMPARISON, path="speed_up.verdict"),
    Column("speed_up_baseline_cell", "baseline",
           "Identifier of the cell that the speed-up is against.", COMPARISON,
           path="speed_up.baseline_cell"),
    Column("speed_up_baseline", "baseline’s name",
           "Label and device of the cell that the speed-up is against.", COMPARISON,
           path="speed_up.baseline_label"),
    Column("speed_up_reason", "why no speed-up",
           "Why the cell is not compared with the sweep's baseline.", COMPARISON,
           details=Shown(_or_nothing, when=lambda rows: any(r.speed_up_reason for r in rows))),
    Column("speed_up_q_value", "adjusted p-value",
           "p-value of the speed-up, adjusted for all speed-ups of the sweep (Benjamini and "
           "Hochberg, 1995).", COMPARISON, path="speed_up.q_value", csv=False,
           details=Shown(lambda value: number(value, 2), when=tested)),
    Column("fidelity_criterion", "Outputs",
           "Criterion that decides whether the outputs count as the reference's: of all criteria "
           "on all outputs the one that was missed, or that is nearest to its limit.",
           cell_status.worst_fidelity, path="fidelity.criterion",
           terminal=Shown(number_format.outputs, whole_row=True, when=has_no_top1),
           markdown=Shown(number_format.outputs, whole_row=True),
           html=Shown(number_format.outputs, "Outputs to\nFP32", whole_row=True),
           details=Shown(number_format.decided_by, "outputs compared by", whole_row=True,
                         when=verified)),
    Column("fidelity_figure", "figure of the criterion",
           "Worst figure of that criterion over all inputs of the reference.",
           cell_status.worst_fidelity, path="fidelity.figure"),
    Column("fidelity_unit", "unit of the criterion",
           "Unit of that figure and of its limit; empty: it has none.",
           cell_status.worst_fidelity, path="fidelity.unit"),
    Column("fidelity_limit", "limit of the criterion",
           "What that figure may be at the most, or must be at the least.",
           cell_status.worst_fidelity, path="fidelity.limit"),
    Column("not_comparable", "Not comparable",
           "Outputs that no fidelity is taken of, because two runs of the source itself differ.",
           "The reference is run again in the same process and in another one.", text=True,
           csv_format="; ".join,
           terminal=Shown(_several, when=partly_comparable),
           markdown=Shown(_several, when=partly_comparable),
           html=Shown(_several, "Not\ncomparable", when=partly_comparable),
           details=Shown(_several, "not comparable", when=partly_comparable)),
    Column("fidelity_max_abs", "largest error",
           "Largest absolute difference to the FP32 reference's output on the same inputs.",
           cell_status.worst_fidelity, path="fidelity.max_abs",
           details=Shown(number, when=verified)),
    Column("fidelity_max_rel", "largest relative error",
           "Largest relative difference to the FP32 reference's output.",
           cell_status.worst_fidelity, path="fidelity.max_rel",
           details=Shown(number, when=verified)),
    Column("fidelity_cosine", "Cosine",
           "Cosine similarity to the FP32 reference's output; empty where no output has a "
           "direction, such as class numbers.", cell_status.worst_fidelity, path="fidelity.cosine",
           details=Shown(lambda value: number(value, 7), "cosine", when=verified)),
    Column("fidelity_psnr_db", "PSNR",
           "Peak signal-to-noise ratio to the FP32 reference's output; empty where the outputs "
           "are identical.", cell_status.worst_fidelity, unit="dB", path="fidelity.psnr_db",
           details=Shown(_psnr, when=verified)),
    Column("fidelity_passed", "outputs verified",
           "Whether the outputs stayed within tolerance of the reference in every trial.",
           cell_status.worst_fidelity, path="fidelity.passed",
           details=Shown(lambda passed: "passed" if passed else "failed", when=verified)),
    Column("trust", "trust",
           "Whether the figures can be trusted: steady, or what disturbed the measurement.",
           RESULTS, path="trust.verdict"),
    Column("trust_reasons", "trust reasons", "Every reason for the trust verdict.", RESULTS,
           path="trust.reasons", csv_format="; ".join),
    Column("caveats", "provisional because",
           "Why the cell's figures and its rank are provisional: not steady, not verified, no "
           "interval.", RESULTS, csv_format="; ".join),
    Column("failure_stage", "failure stage", "Stage of a trial in which the cell failed.", RESULTS,
           path="failure.stage"),
    Column("failure_kind", "failure kind", "Kind of the failure.", RESULTS, path="failure.kind"),
    Column("failure_message", "failure message", "Message of the failure.", RESULTS,
           path="failure.message"),
    Column("failure_fault", "failure fault",
           "What caused the failure: the input, the device or benchfarm.", RESULTS,
           path="failure.fault"),
    Column("options", "options", "Options of the runtime; in CSV one JSON object.", SPECIFICATION,
           csv_format=lambda options: json.dumps(options, sort_keys=True) if options else None,
           details=Shown(lambda options: {name: str(value) for name, value in options.items()})),
    Column("format", "format",
           "Format that the sweep asks the runtime to load; empty: its own choice.", SPECIFICATION,
           csv=False),
    Column("via", "via", "Converter that the sweep asks for.", SPECIFICATION, csv=False),
    Column("environment", "environment", "Python environment in which the runtime ran.", DEVICE,
           csv=False, details=Shown(_or_nothing)),
    Column("artifact_format", "artifact format", "Format of the file that the runtime loaded.",
           DEVICE, csv=False),
    Column("conversion", "conversion steps",
           "Converters that made the file that the runtime loaded, with their versions.", DEVICE,
           csv=False),
    Column("telemetry", "telemetry", "Readings of the device's sensors during the trials, by name.",
           est.telemetry, csv=False,
           details=Shown(lambda found: {name: number(value) for name, value in found.items()})),
    Column("tied_overall", "tied overall",
           "Whether the cell is not shown to differ from the first of its overall rank.",
           COMPARISON, csv=False),
    Column("absent", "absent figures",
           "Why a figure is absent of a cell that was measured, by the column's name. A figure "
           "covers every measured trial or is absent.", RESULTS,
           csv_format=lambda found: "; ".join(f"{name}: {why}" for name, why in found.items()),
           details=Shown(_absent, when=lambda rows: any(row.absent for row in rows))),
    Column("trials", "trials", "Figures of each trial.", "From the trial's own result and samples.",
           csv=False),
)  # fmt: skip


def shown(place: Place, rows: Sequence[CellRow]) -> list[Column]:
    """The columns that ``rows`` have in ``place``, in its order."""
    order = ORDER[place]
    at = {name: index for index, name in enumerate(order)}
    found = [c for c in COLUMNS if (s := c.shown(place)) is not None and s.when(rows)]
    return sorted(found, key=lambda column: at.get(column.name, at[...]))


def computed(trials: Sequence[est.MeasuredTrial]) -> dict[str, Any]:
    """The fields of a row that are computed from a cell's measured trials, and ``absent``: why a
    figure of a measured cell is not there, by the name of its column."""
    found: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for column in COLUMNS:
        if isinstance(column.estimator, str) or column.field in found:
            continue
        try:
            value = column.estimator(trials)
        except est.Incomplete as error:
            value = est.absent(column.unit, str(error)) if column.interval else None
            absent[column.name] = str(error)
        found[column.field] = value
        if isinstance(value, Estimate) and value.value is None and trials:
            absent[column.name] = value.reason
    return found | {"absent": absent}


if __name__ == "__main__":
    sys.stdout.write(documentation(COLUMNS))
