"""The controller's settings: environment variables ``BENCHFARM_*`` over these defaults."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """``database_url`` and ``broker_url`` empty: the embedded ones below ``home``.

    ``heartbeat_s`` is how often an agent beats, ``lease_s`` how long an attempt outlives its last
    heartbeat, ``dispatch_s`` how long a rung doorbell may go unanswered.
    """

    model_config = SettingsConfigDict(env_prefix="BENCHFARM_", extra="ignore")

    home: Path = Field(default_factory=lambda: user_data_path("benchfarm"))
    database_url: str = ""
    broker_url: str = ""
    host: str = "127.0.0.1"
    port: int = 8470
    heartbeat_s: float = 5.0
    lease_s: float = 30.0
    dispatch_s: float = 30.0
    tick_s: float = 0.5
    max_cells: int = 10_000
    max_upload_bytes: int = 4 << 30

    @property
    def sqlalchemy_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'benchfarm.sqlite3'}"

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def offline_after_s(self) -> float:
        """A device is online while its last heartbeat is younger than this: three were missed."""
        return 3.0 * self.heartbeat_s
