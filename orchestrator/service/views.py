"""What people see of the farm, as the API sends it and the client reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class ViewModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ControllerView(ViewModel):
    """``url``: where other machines reach it. ``local_broker``: its broker answers its own machine
    alone, so no other board could hear it."""

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
    """``secret``: shown this once."""

    secret: str
    token: TokenView


class BrokerUsersView(ViewModel):
    """Lines of an ACL file for Redis. ``controller``: empty where the controller's own address of
    the broker names no user and password. ``url``: that address without them."""

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
    """The trial that is with a device; ``number`` counts a cell's trials from 0. A health check is
    of no ``sweep`` that people have."""

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
    """``connection``: online, offline, or retired: measured once, and no board of the farm now.
    ``waiting`` are its pending trials. ``health_reasons``: what its last check, at ``checked_at``,
    found wrong; ``checks_failed`` in a row. ``clock_skew_s``: its clock minus the controller's."""

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

    def labels(self) -> dict[str, str]:
        return {**self.tags, "name": self.name, "class": self.device_class}


class CheckView(ViewModel):
    """One check of a device; ``side``: made by the controller, or by the board itself."""

    side: str
    check: str
    ok: bool
    text: str
    remedy: str


class RetiredView(ViewModel):
    """``cancelled`` trials; ``kept``: it stays listed, for what was measured on it."""

    cancelled: int
    kept: bool


class HealthCheckView(ViewModel):
    """``state``: ended, or that of its trial. ``ok`` is ``None`` until it has ended, and where it
    says nothing about the board. ``clock_skew_s``: the board's clock minus the controller's."""

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
    """``checked``: whether the file was found to be the same network, and how. ``inputs`` and
    ``outputs`` are its own, in the model's order; empty where nothing here could run it."""

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


class PlannedCell(ViewModel):
    """``built``: the builder and its way, where another device converts for this one first."""

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


class PlanView(ViewModel):
    """``estimate_s`` is the farm's wall time: devices run side by side."""

    name: str
    cells: list[PlannedCell]
    trials: int
    estimate_s: float


class TrialProgress(ViewModel):
    """``fault``: whose its failure is (``domain.fault``), empty where it has none."""

    cell: str
    device: str
    number: int
    attempt: int
    state: str
    message: str
    build: bool = False
    fault: str = ""


class SweepView(ViewModel):
    """``counts`` are trials by state, ``builds`` conversions on builders; ``running`` the ones with
    their devices, ``problems`` the latest that failed, were invalid or unsupported. Its trials wait
    for devices that are ``offline``, and for those that are ``held``, by what holds them."""

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


class DeletedView(ViewModel):
    """A sweep that is gone, and what that freed."""

    name: str
    trials: int
    freed_blobs: int
    freed_bytes: int


class JoinView(ViewModel):
    device: str
    url: str
    join_token: str
    expires_at: datetime


class EventView(ViewModel):
    """``by``: on whose behalf; empty of events that were written before it was noted."""

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
