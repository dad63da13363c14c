"""The tables. Times are UTC; wire types and specs are stored as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def now() -> datetime:
    return datetime.now(UTC)


class Moment(TypeDecorator[datetime]):
    """A UTC time with its time zone on every database; SQLite itself drops the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        # PostgreSQL returns times in its session's time zone
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads this class attribute
        datetime: Moment,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class Device(Base):
    """One board.

    Attributes:
        enabled: whether it is to be given work; whether it is online follows from ``seen_at``.
        health_reasons: what the last health check found wrong; empty where it was good.
        checks_failed: how many checks have failed in a row.
        checked_at: when the last check ended; ``None``: the first one is due.
        baseline_at: latencies of older checks are of another board or power mode: not compared.
        clock_skew_s: the board's clock minus the controller's at the last heartbeat.
        broker_digest: SHA-256 of its password on the broker; empty: it has none.
        drain_note: why it was drained, in a person's words; empty while it is enabled.
        noted_online: what the event log says last: that it came online, or went offline.
        former_runtimes: what a retired device had, as ``NAME==VERSION``.
        former_name: its name before it was renamed, until its board has joined under the new one.
        retired_at: when it left the farm; it is kept for its measurements.
    """

    __tablename__ = "devices"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    device_class: Mapped[str]
    tags: Mapped[dict[str, Any]] = mapped_column(default=dict)
    enabled: Mapped[bool] = mapped_column(default=True)
    health: Mapped[str] = mapped_column(default="unknown")
    health_reasons: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    checks_failed: Mapped[int] = mapped_column(default=0, server_default="0")
    checked_at: Mapped[datetime | None]
    baseline_at: Mapped[datetime | None]
    storage_free_mib: Mapped[float | None]
    temperature_c: Mapped[float | None]
    clock_skew_s: Mapped[float | None]
    facts: Mapped[dict[str, Any] | None]
    agent_version: Mapped[str] = mapped_column(default="")
    broker_digest: Mapped[str] = mapped_column(default="", server_default="")
    seen_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    drain_note: Mapped[str] = mapped_column(default="", server_default="")
    noted_online: Mapped[bool] = mapped_column(default=False, server_default=false())
    former_runtimes: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    former_name: Mapped[str] = mapped_column(default="", server_default="")
    retired_at: Mapped[datetime | None]


class Token(Base):
    """A person's or a device's secret; only its SHA-256 is stored. ``last_used_at`` is precise to a
    minute."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    device_id: Mapped[int | None] = mapped_column(ForeignKey("devices.id"))
    note: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Model(Base):
    """A registered model: inputs, outputs, reference outputs, and its data set if it has one."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    inputs: Mapped[list[Any]]
    outputs: Mapped[list[Any]]
    free_batch: Mapped[bool]
    reference: Mapped[dict[str, Any]]
    dataset: Mapped[dict[str, Any] | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)
    artifacts: Mapped[list[Artifact]] = relationship(
        back_populates="model",
        cascade="all, delete-orphan",
        lazy="selectin",
        order_by="Artifact.id",
    )


class Artifact(Base):
    """One file of a model in one format.

    Attributes:
        own_inputs, own_outputs: its own tensors in the model's order; ``None`` where unknown.
        checked: whether and how it was found to be the same network.
        precision: empty for files that were added before it was recorded.
    """

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("model_id", "format"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    format: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    precision: Mapped[str] = mapped_column(default="", server_default="")
    own_inputs: Mapped[list[Any] | None]
    own_outputs: Mapped[list[Any] | None]
    checked: Mapped[str] = mapped_column(default="", server_default="")
    model: Mapped[Model] = relationship(back_populates="artifacts")


SWEEP, HEALTH = "sweep", "health"
"""Kinds of sweeps: a person's, and a device's hidden one, which holds its health checks."""


class Sweep(Base):
    """A set of cells. Only sweeps of ``kind`` ``sweep`` are ever shown. ``owner``: the actor that
    submitted it, as in the event log."""

    __tablename__ = "sweeps"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]]
    spec_text: Mapped[str]
    attempts: Mapped[int]
    kind: Mapped[str] = mapped_column(default=SWEEP, server_default=SWEEP)
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]
    owner: Mapped[str] = mapped_column(default="", server_default="")
    cells: Mapped[list[Cell]] = relationship(back_populates="sweep", order_by="Cell.id")


class Cell(Base):
    """One configuration on one device.

    Attributes:
        request: the TrialRequest without its ids; ``None`` for a cell that placement skipped.
        skip: why placement skipped it.
        build_key: set for a cell that builds an artifact for other cells instead of measuring:
            SHA-256 over everything that the artifact depends on.
    """

    __tablename__ = "cells"

    id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id"), index=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    model: Mapped[str]
    configuration: Mapped[dict[str, Any]]
    request: Mapped[dict[str, Any] | None]
    skip: Mapped[str] = mapped_column(default="")
    build_key: Mapped[str] = mapped_column(default="", server_default="", index=True)
    sweep: Mapped[Sweep] = relationship(back_populates="cells")
    device: Mapped[Device] = relationship()
    trials: Mapped[list[Trial]] = relationship(back_populates="cell", order_by="Trial.number")


class Trial(Base):
    """One measurement of a cell in a fresh process.

    Attributes:
        number: from 0 within its cell.
        place: its position in its device's queue within the sweep.
        attempt: number of its last attempt, which is the fencing token.
        spent: attempts that count against the sweep's ``attempts``.
        waits_for: the trial that builds what this one runs; cleared when that is built.
    """

    __tablename__ = "trials"
    __table_args__ = (Index("ix_trials_claim", "device_id", "state", "sweep_id", "place"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id"), index=True)
    cell_id: Mapped[int] = mapped_column(ForeignKey("cells.id"), index=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    number: Mapped[int]
    place: Mapped[int]
    state: Mapped[str] = mapped_column(default="pending")
    attempt: Mapped[int] = mapped_column(default=0)
    spent: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    waits_for: Mapped[int | None] = mapped_column(ForeignKey("trials.id"), index=True)
    cell: Mapped[Cell] = relationship(back_populates="trials")


class Attempt(Base):
    """One execution of a trial.

    Attributes:
        id: what a doorbell names.
        number: fencing token: only the attempt with its trial's last number counts.
        result: kept even where it does not count; it counts only where ``accepted``.
    """

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("trial_id", "number"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id"))
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"), index=True)
    number: Mapped[int]
    dispatched_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    lease_until: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    accepted: Mapped[bool] = mapped_column(default=False)
    result: Mapped[dict[str, Any] | None]
    note: Mapped[str] = mapped_column(default="")
    trial: Mapped[Trial] = relationship()


class HealthCheck(Base):
    """One health check of a device; open until ``ended_at`` is set, when it is judged.

    Attributes:
        ok: ``None`` where it says nothing about the board; ``reasons`` says why.
        runtime: what it ran with.
        trial_id, attempt_id: empty where no runtime could run it.
        latency_ms, temperature_c, storage_free_mib, clock_skew_s: readings at its end.
    """

    __tablename__ = "health_checks"
    __table_args__ = (Index("ix_health_checks_device", "device_id", "ended_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey("trials.id"))
    attempt_id: Mapped[str] = mapped_column(default="")
    why: Mapped[str]
    runtime: Mapped[str] = mapped_column(default="")
    asked_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ok: Mapped[bool | None]
    reasons: Mapped[list[Any]] = mapped_column(default=list)
    latency_ms: Mapped[float | None]
    temperature_c: Mapped[float | None]
    storage_free_mib: Mapped[float | None]
    clock_skew_s: Mapped[float | None]


class Event(Base):
    """One entry of the append-only event log."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    kind: Mapped[str]
    subject: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
