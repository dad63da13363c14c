"""The report as data: frozen pydantic models, without raw samples.

The API returns this JSON, the command line renders it, and it is what remains of a sweep whose raw
samples were pruned: reports of earlier versions must parse.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.contract.device import DeviceFacts
from agent.contract.trial import Option

REPORT_SCHEMA = 1
"""Version of this document; raised when a field changes its meaning."""

CellStatus = Literal[
    "ok", "failed_fidelity", "failed_accuracy", "unsupported", "invalid", "failed", "cancelled",
    "skipped", "partial", "pending",
]  # fmt: skip
Trust = Literal[
    "steady", "warming_up", "slowing_down", "no_steady_state", "interfered", "too_short", "unknown"
]
"""Whether figures can be trusted (``statistics/stability.py``)."""
SpeedVerdict = Literal["faster", "slower", "no_difference_shown", "no_interval", "baseline"]


class FrozenModel(BaseModel):
    """Immutable, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(FrozenModel):
    """A figure with its 95 % confidence interval.

    ``value`` is ``None`` where there is no estimate, ``low`` and ``high`` where there is no
    interval; ``reason`` then says why. ``n``: number of trials that it covers, which is every
    measured trial of the cell. ``decimals``: most digits after the
    point that the clock's tick supports, to which the values are rounded; ``None``: no clock is
    involved.
    """

    unit: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str = ""
    decimals: int | None = None


Figure = Estimate | bool | int | float | str | None
"""What an additional column of a row may hold."""


class SpeedUp(FrozenModel):
    """Baseline latency over this cell's latency, from per-trial medians; above 1 is faster.

    ``q_value``: p-value adjusted for all speed-ups of the sweep (Benjamini–Hochberg). A difference
    is shown where it is at most 0.05 and the interval excludes 1.
    """

    estimate: Estimate
    verdict: SpeedVerdict
    baseline_cell: str
    baseline_label: str
    q_value: float | None = None


class FidelityRow(FrozenModel):
    """Worst output over all verified trials, compared with the FP32 reference on the same inputs.

    ``psnr_db`` is ``None`` where the outputs are identical (infinite), ``cosine`` where no output
    has a direction. ``criterion``, a key of ``agent.contract.comparison.CRITERIA``, is the one that
    decides, with its ``figure`` and ``limit`` in ``unit``; empty for results of 0.1, which were
    compared by cosine. ``loss``: 0 for outputs that equal the reference's, up to 1.
    ``notes``: what the comparison does not show."""

    max_abs: float
    max_rel: float
    cosine: float | None
    psnr_db: float | None
    worst_output: str
    passed: bool
    criterion: str = ""
    figure: float | None = None
    unit: str = ""
    limit: float | None = None
    loss: float | None = None
    notes: tuple[str, ...] = ()


class PrecisionRow(FrozenModel):
    """Shares of the network, 0 to 1, that the conversion brought into the cell's precision; the
    smallest of a cell's trials. ``macs`` is ``None`` where none could be counted."""

    operators: float | None
    weights: float | None
    macs: float | None


class FailureRow(FrozenModel):
    """Why a cell or trial has no figures. ``fault``: what caused it, a
    ``domain.failure_cause.Fault``."""

    stage: str
    kind: str
    message: str
    log_tail: str = ""
    fault: str = ""


class TrustRow(FrozenModel):
    """The trust verdict and every reason for it."""

    verdict: Trust
    reasons: tuple[str, ...] = ()


class TrialRow(FrozenModel):
    """One fresh process. ``p50_low_ms``/``p50_high_ms``: order-statistic interval within the trial.

    ``effective_samples``: effective sample size. ``trust``: verdict on this trial alone.
    """

    index: int
    attempt: int
    status: str
    samples: int
    effective_samples: float | None = None
    p50_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    p99_ms: float | None = None
    mean_ms: float | None = None
    inferences_per_second: float | None = None
    stopped_by: str = ""
    overhead_s: float | None = None
    temperature_before_c: float | None = None
    temperature_after_c: float | None = None
    cpu_mhz_after: float | None = None
    trust: TrustRow
    failure: FailureRow | None = None
    telemetry: dict[str, float] = Field(default_factory=dict)


class CellRow(FrozenModel):
    """One configuration on one device, units in the names.

    ``report/columns.py`` says what each field means and how it is computed. ``speed_up_reason``:
    why there is no speed-up, where the sweep names a baseline. ``caveats``: why a figure or a rank
    of a measured cell is provisional. Unlike the other
    models, a row accepts additional keys: columns that are declared there but have no field here.
    In JSON they stand beside the fields.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Figure]

    cell_id: str
    label: str
    device: str
    device_class: str
    model: str
    workload: str
    backend: str
    version: str
    target: str
    precision: str
    threads: int
    batch_size: int
    options: dict[str, Option]
    calibration: str
    format: str = ""
    via: str = ""
    runtime_version: str = ""
    environment: str = ""
    placement: str = ""
    artifact_format: str = ""
    conversion: str = ""

    status: CellStatus
    status_note: str = ""
    failure: FailureRow | None = None
    trust: TrustRow
    trials_measured: int
    trials_planned: int
    samples: int

    p50_ms: Estimate
    p90_ms: Estimate
    p99_ms: Estimate
    mean_ms: Estimate
    runtime_p50_ms: Estimate
    inferences_per_second: Estimate
    min_ms: float | None = None
    max_ms: float | None = None
    stdev_ms: float | None = None
    cv: float | None = None
    mad_ms: float | None = None

    import_s: Estimate
    load_cold_ms: Estimate
    load_warm_ms: Estimate
    first_inference_ms: Estimate
    convert_s: float | None = None
    overhead_s: float | None = None
    peak_rss_mib: float | None = None
    cpu_percent: float | None = None
    artifact_size_mib: float | None = None
    source_size_mib: float | None = None
    source_stored: str = ""
    telemetry: dict[str, float] = Field(default_factory=dict)
    absent: dict[str, str] = Field(default_factory=dict)

    top1: float | None = None
    reference_top1: float | None = None
    accuracy_passed: bool | None = None
    accuracy_remark: str | None = None
    fidelity: FidelityRow | None = None
    not_comparable: tuple[str, ...] = ()
    precision_share: PrecisionRow | None = None

    speed_up: SpeedUp | None = None
    speed_up_reason: str = ""
    rank: int | None = None
    rank_overall: int | None = None
    rank_reason: str = ""
    caveats: tuple[str, ...] = ()
    tied: bool = False
    tied_overall: bool = False
    pareto: bool = False
    trials: tuple[TrialRow, ...] = ()


class Winner(FrozenModel):
    """The fastest ranked cell on one device, or on all devices where ``device`` is empty.

    ``tied_with``: cells that are not shown to be slower. ``caveats``: why the claim is provisional,
    which it is where there are any (``claims.caveats``).
    """

    device: str
    cell_id: str
    tied_with: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


class ModelGroup(FrozenModel):
    """Cells that are compared with each other: one model under one workload.

    ``pareto_objectives``: what the Pareto front minimises.
    """

    model: str
    workload: str
    cells: tuple[str, ...]
    winner: Winner | None = None
    device_winners: tuple[Winner, ...] = ()
    pareto_objectives: tuple[str, ...] = ()


class SweepReport(FrozenModel):
    """A whole sweep: rows grouped by model, then device, then rank. ``baseline_line``: what
    speed-ups are relative to, with the rule and the defaults that were taken."""

    schema_number: int = REPORT_SCHEMA
    name: str
    created_at: datetime
    state: str
    benchfarm_version: str
    spec_yaml: str
    baseline: dict[str, str]
    baseline_line: str = ""
    devices: dict[str, DeviceFacts]
    groups: tuple[ModelGroup, ...]
    rows: tuple[CellRow, ...]
    notes: tuple[str, ...] = ()

    def row(self, cell_id: str) -> CellRow:
        """The row of a cell. Raises ``KeyError``."""
        for row in self.rows:
            if row.cell_id == cell_id:
                return row
        raise KeyError(cell_id)

    def rows_of(self, group: ModelGroup) -> tuple[CellRow, ...]:
        """The rows of a group, in the report's order."""
        members = set(group.cells)
        return tuple(row for row in self.rows if row.cell_id in members)
