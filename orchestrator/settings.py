"""The controller's settings: environment variables ``BENCHFARM_*``, and their defaults."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.domain.errors import UserError

LOOPBACK_OF_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that mean all interfaces → the loopback address of the same family."""


class Settings(BaseSettings):
    """The controller's settings; each is an environment variable ``BENCHFARM_NAME``.

    Attributes:
        database_url, broker_url: empty: embedded ones below ``home``.
        blobs_dir: folder that several controllers share; ``None``: below ``home``.
        broker_acl: a user for each device on Redis; ``auto``: where the controller may make them.
        tls_certificate, tls_key: PEM files with which the API serves HTTPS.
        controller_url: where boards and people on other machines reach the API, for instance a
            reverse proxy; empty: the host name, or the address it listens on.
        ca_file: certificate authority to trust, for the API and the broker.
        heartbeat_s: interval of an agent's heartbeats in a small farm.
        beats_per_s: heartbeats per second of all boards together; a larger farm gets a longer
            interval and longer leases.
        lease_s: how long an attempt outlives its last heartbeat.
        dispatch_s: how long a doorbell may go unanswered.
        tick_s: interval of the scheduler's rounds.
        health_every_s: interval of health checks; 0: only those that people request.
        health_retry_s: interval after a failed one.
        health_fresh_s: a sweep starts with a check where the last good one is older.
        cell_failures: after so many permanent failures and no success the rest of a cell is not
            run; 0: it always is.
        confirm_cells: a larger sweep needs ``--yes-really``; one above ``max_cells`` is refused.
        enrolments_per_minute, failures_per_minute: limits for one address; failures are those of
            authentication.
        inspect_s, inspect_mib: limits of reading one uploaded model or data set.
        keep_samples, keep_events, keep_sweeps: what ``benchfarm db prune`` deletes when it is
            older (90d); empty: nothing.
    """

    model_config = SettingsConfigDict(env_prefix="BENCHFARM_", extra="ignore")

    home: Path = Field(default_factory=lambda: user_data_path("benchfarm"))
    database_url: str = ""
    broker_url: str = ""
    blobs_dir: Path | None = None
    broker_acl: Literal["auto", "on", "off"] = "auto"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    controller_url: str = ""
    ca_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8470
    heartbeat_s: float = 5.0
    beats_per_s: float = Field(default=50.0, gt=0)
    lease_s: float = 30.0
    dispatch_s: float = 30.0
    tick_s: float = 0.5
    health_every_s: float = Field(default=3600.0, ge=0)
    health_retry_s: float = Field(default=300.0, ge=0)
    health_fresh_s: float = Field(default=600.0, ge=0)
    cell_failures: int = Field(default=3, ge=0)
    confirm_cells: int = 1_000
    max_cells: int = 10_000
    enrolments_per_minute: int = Field(default=60, ge=1)
    failures_per_minute: int = Field(default=60, ge=1)
    max_upload_bytes: int = 4 << 30
    inspect_s: float = Field(default=60.0, gt=0)
    inspect_mib: int = Field(default=4096, ge=64)
    keep_samples: str = ""
    keep_events: str = ""
    keep_sweeps: str = ""

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Settings:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("BENCHFARM_TLS_CERTIFICATE and BENCHFARM_TLS_KEY go together")
        return self

    @field_validator("controller_url")
    @classmethod
    def _is_address(cls, given: str) -> str:
        parts = urlsplit(given)
        if given and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("expected https://HOST or http://HOST:PORT")
        return given.rstrip("/")

    @property
    def sqlalchemy_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'benchfarm.sqlite3'}"

    @property
    def ca_path(self) -> str:
        """``ca_file`` as an absolute path; empty: the system's authorities."""
        return str(self.ca_file.absolute()) if self.ca_file else ""

    def authority(self) -> str:
        """The certificates (PEM) in ``ca_file``; empty: none."""
        return self.ca_file.read_text("utf-8") if self.ca_file else ""

    @property
    def blobs_folder(self) -> Path:
        return self.blobs_dir or self.home / "blobs"

    @property
    def url(self) -> str:
        """The API's URL for this machine."""
        return self.url_of(LOOPBACK_OF_ANY.get(self.host, self.host))

    @property
    def public_url(self) -> str:
        """The API's URL for other machines: with the host name where it listens on all
        interfaces."""
        return self.controller_url or self.url_of(
            socket.gethostname() if self.host in LOOPBACK_OF_ANY else self.host
        )

    def url_of(self, host: str) -> str:
        """The API's URL with this host name or address."""
        scheme = "https" if self.tls_certificate else "http"
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )


def reaches_one_machine(broker_url: str) -> bool:
    """Whether only this machine can connect to the broker."""
    parts = urlsplit(broker_url)
    if parts.scheme not in ("redis", "rediss"):
        return parts.scheme in ("memory", "redis+socket")
    host = parts.hostname or "localhost"
    return host in ("localhost", "::1") or host.startswith("127.")


def read_settings(**given: object) -> Settings:
    """The environment's settings, overridden by ``given``. Raises ``UserError``."""
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise UserError(first["msg"].removeprefix("Value error, ")) from None
        name = "_".join(["BENCHFARM", *map(str, first["loc"])]).upper()
        raise UserError(f"{name}: {first['msg']} (found {first['input']!r})") from None
