"""The controller's settings: environment variables ``BENCHFARM_*`` over these defaults."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from platformdirs import user_data_path
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.domain.errors import UserError

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that mean every one of this machine's, and what reaches it from itself."""


class Settings(BaseSettings):
    """``database_url`` and ``broker_url`` empty: the embedded ones below ``home``.

    ``heartbeat_s`` is how often an agent beats, ``lease_s`` how long an attempt outlives its last
    heartbeat, ``dispatch_s`` how long a rung doorbell may go unanswered. All boards together beat
    ``beats_per_s`` times a second at most: in a farm of more than that allows they beat less often,
    and leases are longer. ``blobs_dir``: a folder
    that controllers side by side share; none: below ``home``. ``keep_…``: what
    ``benchfarm db prune`` lets go of when it is older (90d); empty: nothing.

    Health checks: every ``health_every_s`` (0: only those that somebody asks for), every
    ``health_retry_s`` after one that failed, and before a sweep where the last good one is older
    than ``health_fresh_s``.

    ``cell_failures``: after so many trials of a cell have failed for good, and none went well, the
    rest of it is not run (0: always run).

    ``broker_acl``: whether each device gets a user of its own on Redis; ``auto``: where the
    controller may make them. ``tls_certificate`` and ``tls_key``: PEM files with which the API
    speaks HTTPS; ``ca_file``: a certificate authority to trust, for API and broker. A sweep of more
    than ``confirm_cells`` wants ``--yes-really``, one of more than ``max_cells`` is refused.
    ``inspect_s`` and ``inspect_mib``: what reading one model's file or data set may take.
    ``enrolments_per_minute`` and ``failures_per_minute`` (of authentication) bound one address.
    """

    model_config = SettingsConfigDict(env_prefix="BENCHFARM_", extra="ignore")

    home: Path = Field(default_factory=lambda: user_data_path("benchfarm"))
    database_url: str = ""
    broker_url: str = ""
    blobs_dir: Path | None = None
    broker_acl: Literal["auto", "on", "off"] = "auto"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
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

    @property
    def sqlalchemy_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'benchfarm.sqlite3'}"

    @property
    def ca_path(self) -> str:
        """``ca_file`` as other libraries take it; empty: none of our own."""
        return str(self.ca_file.absolute()) if self.ca_file else ""

    @property
    def blobs_folder(self) -> Path:
        return self.blobs_dir or self.home / "blobs"

    @property
    def url(self) -> str:
        """Where this machine reaches the API."""
        return self._url_of(LOOPBACK.get(self.host, self.host))

    @property
    def public_url(self) -> str:
        """Where other machines reach it: by this host's name where it listens on every address."""
        return self._url_of(socket.gethostname() if self.host in LOOPBACK else self.host)

    def _url_of(self, host: str) -> str:
        scheme = "https" if self.tls_certificate else "http"
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )


def reaches_one_machine(broker_url: str) -> bool:
    """Whether no other machine than this one could connect to the broker."""
    parts = urlsplit(broker_url)
    if parts.scheme not in ("redis", "rediss"):
        return parts.scheme in ("memory", "redis+socket")
    host = parts.hostname or "localhost"
    return host in ("localhost", "::1") or host.startswith("127.")


def read_settings(**given: object) -> Settings:
    """The environment's settings with ``given`` over them. Raises ``UserError``."""
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise UserError(first["msg"].removeprefix("Value error, ")) from None
        name = "_".join(["BENCHFARM", *map(str, first["loc"])]).upper()
        raise UserError(f"{name}: {first['msg']} (found {first['input']!r})") from None
