"""The tables. Times are UTC; wire types and specs are kept as their JSON."""

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
    """An aware UTC time on every database; SQLite alone would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        # PostgreSQL answers in the time zone of its own session
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads this class attribute
        datetime: Moment,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class Device(Base):
    """One board. ``enabled`` is a wish; whether it is online follows from ``seen_at``.

    ``health_reasons``: what the last check found wrong, none where it was good;
    ``checks_failed`` in a row. ``checked_at``: when it ended, none where a first check is due.
    ``baseline_at``: older checks are of another condition, or another board, and no measure.
    ``clock_skew_s``: the board's clock minus the controller's, as the last heartbeat had it.
    ``broker_digest``: the SHA-256 of its password on the broker; empty: it has none.
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


class Token(Base):
    """A person's or a device's secret, stored as its SHA-256 only. ``last_used_at`` is right to a
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
    """A registered model: what it takes and gives, its reference outputs, its data set if any."""

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
    """One file of a model in one format. ``own_inputs``, ``own_outputs``: its own tensors in the
    model's order, none where nobody asked it; ``checked`` says whether it is the same network.
    ``precision`` is empty of files that were added before it was asked."""

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
"""Kinds of sweeps: a person's, and the hidden one of a device, which holds its health checks."""


class Sweep(Base):
    """``kind``: only those of kind ``sweep`` are shown to anybody."""

    __tablename__ = "sweeps"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]]
    spec_text: Mapped[str]
    attempts: Mapped[int]
    kind: Mapped[str] = mapped_column(default=SWEEP, server_default=SWEEP)
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]
    cells: Mapped[list[Cell]] = relationship(back_populates="sweep", order_by="Cell.id")


class Cell(Base):
    """One configuration on one device. ``request`` is the TrialRequest less its ids; a cell that
    placement skipped has none, and ``skip`` says why.

    ``build_key`` is set where nothing is measured but an artifact made for other cells: a SHA-256
    over all that it depends on.
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
    """One fresh-process measurement of a cell; ``place`` is its turn on its device.

    ``waits_for``: the trial that builds what this one runs; cleared when it has been built.
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
    """One execution of a trial. ``id`` is what the broker carries; ``number`` fences.

    ``result`` is kept whatever became of it; it counts only where ``accepted``.
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
    """One health check of a device: open until ``ended_at``, and then judged.

    ``ok`` stays empty where it says nothing about the board, ``reasons`` why. ``runtime`` is what
    it ran with; ``trial_id`` and ``attempt_id`` are empty where nothing could run. The readings are
    those of its end.
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
    """Append-only: what happened, when, to what."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    kind: Mapped[str]
    subject: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
