"""What people see of the farm, as the API sends it and the client reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ControllerView(View):
    """``url``: where other machines reach it. ``local_broker``: its broker answers its own machine
    alone, so no other board could hear it."""

    url: str
    local_broker: bool


class TokenView(View):
    """A person's token. ``state``: valid, expired or revoked."""

    id: int
    name: str
    role: str
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewTokenView(View):
    """``secret``: shown this once."""

    secret: str
    token: TokenView


class BrokerUsersView(View):
    """Lines of an ACL file for Redis. ``controller``: empty where the controller's own address of
    the broker names no user and password. ``url``: that address without them."""

    controller: str
    devices: list[str]
    url: str


class RuntimeView(View):
    backend: str
    version: str
    targets: dict[str, list[str]]
    environment: str
    missing: str


class DeviceView(View):
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

    def labels(self) -> dict[str, str]:
        return {**self.tags, "name": self.name, "class": self.device_class}


class ArtifactView(View):
    """``checked``: whether the file was found to be the same network, and how. ``inputs`` and
    ``outputs`` are its own, in the model's order; empty where nothing here could run it."""

    format: str
    sha256: str
    size_bytes: int
    checked: str
    precision: str = ""
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


class ModelView(View):
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


class PlannedCell(View):
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


class PlanView(View):
    """``estimate_s`` is the farm's wall time: devices run side by side."""

    name: str
    cells: list[PlannedCell]
    trials: int
    estimate_s: float


class TrialProgress(View):
    cell: str
    device: str
    number: int
    attempt: int
    state: str
    message: str
    build: bool = False


class SweepView(View):
    """``counts`` are trials by state, ``builds`` conversions on builders; ``running`` the ones with
    their devices, ``problems`` the latest that failed, were invalid or unsupported."""

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


class JoinView(View):
    device: str
    url: str
    join_token: str
    expires_at: datetime


class EventView(View):
    id: int
    at: datetime
    kind: str
    subject: str
    data: dict[str, Any]


class ZooView(View):
    name: str
    description: str
    parameters: int
    input_shape: list[int]
    weights: str
