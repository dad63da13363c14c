"""Views of the farm for people: what the API sends and the client reads."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class ViewModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ControllerView(ViewModel):
    """The controller. ``url``: where other machines reach it. ``local_broker``: its broker can be
    reached from its own machine only, so no other board can be added."""

    url: str
    local_broker: bool


class TokenView(ViewModel):
    """A person's token. ``state``: valid, expired or revoked."""

    id: int
    name: str
    role: str
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewTokenView(ViewModel):
    """A new token. ``secret`` is shown only here."""

    secret: str
    token: TokenView


class BrokerUsersView(ViewModel):
    """Lines of an ACL file for Redis. ``controller``: empty where the broker's URL has no user and
    password. ``url``: the broker's URL without them; empty: the embedded broker, without users."""

    controller: str
    devices: list[str]
    url: str


class RuntimeView(ViewModel):
    backend: str
    version: str
    targets: dict[str, list[str]]
    environment: str
    missing: str


class RunningView(ViewModel):
    """The trial that a device runs; ``number`` counts a cell's trials from 0. ``sweep`` is empty
    for a health check."""

    sweep: str
    cell: str
    number: int
    build: bool
    since: datetime

    def words(self) -> str:
        """``sweep demo: digits_cnn …, trial 2``."""
        if not self.sweep:
            return self.cell
        trial = "" if self.build else f", trial {self.number + 1}"
        return f"sweep {self.sweep}: {self.cell}{trial}"


class DeviceView(ViewModel):
    """A device.

    Attributes:
        connection: online, offline, or retired: it has left the farm, and has measurements.
        waiting: number of its pending trials.
        health_reasons: what its last check, at ``checked_at``, found wrong.
        checks_failed: number of failed checks in a row.
        clock_skew_s: its clock minus the controller's.
        drain_note: why it is drained; empty where nobody said so.
        former_runtimes: what a retired device had, as ``NAME==VERSION``.
        former_name: its name before it was renamed, until its board has joined under the new one.
    """

    name: str
    device_class: str
    tags: dict[str, str]
    enabled: bool
    connection: str
    health: str
    agent_version: str
    seen_at: datetime | None
    facts: dict[str, Any] | None
    runtimes: list[RuntimeView]
    running: RunningView | None = None
    waiting: int = 0
    health_reasons: list[str] = []
    checks_failed: int = 0
    checked_at: datetime | None = None
    storage_free_mib: float | None = None
    temperature_c: float | None = None
    clock_skew_s: float | None = None
    drain_note: str = ""
    former_runtimes: list[str] = []
    former_name: str = ""

    def labels(self) -> dict[str, str]:
        return {**self.tags, "name": self.name, "class": self.device_class}


class CheckView(ViewModel):
    """One check of a device's set-up; ``side``: made by the controller or by the board."""

    side: str
    check: str
    ok: bool
    text: str
    remedy: str


class RetiredView(ViewModel):
    """A retired device. ``cancelled``: number of trials; ``kept``: still listed, for its
    measurements."""

    cancelled: int
    kept: bool


class HealthCheckView(ViewModel):
    """A health check. ``state``: ended, or the state of its trial. ``ok``: ``None`` until it has
    ended, or where it says nothing about the board. ``clock_skew_s``: the board's minus the
    controller's."""

    id: int
    device: str
    why: str
    state: str
    runtime: str
    asked_at: datetime
    ended_at: datetime | None
    ok: bool | None
    reasons: list[str]
    latency_ms: float | None
    temperature_c: float | None
    storage_free_mib: float | None
    clock_skew_s: float | None
    attempt: str


class ArtifactView(ViewModel):
    """One file of a model. ``checked``: whether and how it was found to be the same network.
    ``inputs``, ``outputs``: its own, in the model's order; empty where no runtime here can run
    it."""

    format: str
    sha256: str
    size_bytes: int
    checked: str
    precision: str = ""
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


class ModelView(ViewModel):
    name: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    free_batch: bool
    artifacts: list[ArtifactView]
    dataset: str
    reference: str
    reference_top1: float | None
    details: dict[str, Any]
    created_at: datetime
    dataset_sha256: str = ""


class PlannedCell(ViewModel):
    """A cell of a plan. ``built``: the builder and its conversions, where a builder converts
    first. ``estimate_s``: of one trial, ``convert_s``: of the conversion before the first one;
    ``estimate_from``: what they rest on."""

    device: str
    model: str
    label: str
    format: str
    version: str
    built: str = ""
    skip: str
    trials: int
    estimate_s: float
    estimate_from: str
    convert_s: float = 0.0


class PlannedBoard(ViewModel):
    """A board that a sweep selects.

    Attributes:
        cells: number of its cells that would run.
        left_out: why none of them would; empty where one would.
        not_ready: why it would not begin a trial now: drained, offline, in quarantine …
    """

    device: str
    cells: int
    left_out: str = ""
    not_ready: str = ""


class PlanView(ViewModel):
    """A sweep's plan. ``estimate_s``: expected wall time with all devices running in parallel; it
    is not a bound. ``missed``: board that an earlier sweep with the same selection had → why this
    one has not. ``notes``: what its author should know before it runs."""

    name: str
    cells: list[PlannedCell]
    trials: int
    estimate_s: float
    boards: list[PlannedBoard] = []
    missed: dict[str, str] = {}
    notes: list[str] = []


class TrialProgress(ViewModel):
    """A trial. ``fault``: whose fault its failure is (``domain.failure_cause``); empty without
    one."""

    cell: str
    device: str
    number: int
    attempt: int
    state: str
    message: str
    build: bool = False
    fault: str = ""


class SweepView(ViewModel):
    """A sweep's progress.

    Attributes:
        counts: state → number of trials that measure.
        builds: state → number of conversions on builders.
        running: trials that are with their devices.
        problems: the latest trials that failed, were invalid or unsupported.
        offline: devices that are offline and have pending trials.
        held: devices in quarantine or maintenance that have pending trials → the reason.
        drained: devices that are drained and have pending trials → the note of who drained it.
        left_out: boards none of whose cells is run → the reasons.
        returned: boards of ``left_out`` that could be given work now: ``sweep resume`` plans their
            cells again.
        owner: who submitted it, as in the event log; empty for sweeps of older versions.
    """

    name: str
    state: str
    created_at: datetime
    finished_at: datetime | None
    cells: int
    skipped: int
    trials: int
    counts: dict[str, int]
    builds: dict[str, int] = {}
    running: list[TrialProgress] = []
    problems: list[TrialProgress] = []
    offline: list[str] = []
    held: dict[str, str] = {}
    drained: dict[str, str] = {}
    left_out: dict[str, str] = {}
    returned: list[str] = []
    owner: str = ""


class RemovedModelView(ViewModel):
    """A removed model, or file of one: the formats of the files, and the blobs that were freed."""

    name: str
    formats: list[str]
    freed_blobs: int
    freed_bytes: int


class DeletedView(ViewModel):
    """A deleted sweep, and the blobs that were freed."""

    name: str
    trials: int
    freed_blobs: int
    freed_bytes: int


class JoinView(ViewModel):
    """A join token. ``kept_tags``: those that a device of this name had when it was retired, and
    has again; ``former_runtimes``: what it had then, as ``NAME==VERSION``."""

    device: str
    url: str
    join_token: str
    expires_at: datetime
    kept_tags: dict[str, str] = {}
    former_runtimes: list[str] = []


class EventView(ViewModel):
    """An event. ``by``: the actor; empty in events from before actors were recorded."""

    id: int
    at: datetime
    kind: str
    subject: str
    by: str = ""
    data: dict[str, Any]


class ZooView(ViewModel):
    name: str
    description: str
    parameters: int
    input_shape: list[int]
    weights: str
