"""What the agent and the controller say to each other over HTTP (``/api/v1``), beside results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.contract import TrialRequest
from agent.device_facts import DeviceFacts


@dataclass(frozen=True)
class Enrolment:
    """``POST /enroll``: a board redeems a one-time join token for its own device token."""

    join_token: str
    name: str
    agent_version: str
    facts: DeviceFacts


@dataclass(frozen=True)
class Enrolled:
    """Answer: the device's secret token (shown once), its broker, and how often to beat."""

    device: str
    token: str
    broker_url: str
    heartbeat_s: float


@dataclass(frozen=True)
class Heartbeat:
    """``PUT /devices/{name}/heartbeat``: the agent lives, executing ``attempt_id`` or nothing.

    ``at_unix_ns``: its own clock, 0 where it does not say. ``temperature_c``: the hottest zone.
    """

    agent_version: str
    attempt_id: str = ""
    at_unix_ns: int = 0
    storage_free_mib: Optional[float] = None
    temperature_c: Optional[float] = None


@dataclass(frozen=True)
class HeartbeatAnswer:
    """``renewed``: the lease of the heartbeat's attempt was renewed. ``cancel``: stop it now."""

    renewed: bool
    cancel: bool
    heartbeat_s: float
    lease_s: float


@dataclass(frozen=True)
class Started:
    """Answer of ``POST /attempts/{id}/start``: the attempt is leased for ``lease_s`` seconds, to be
    renewed by heartbeats; an agent that cannot renew within it kills the child."""

    lease_s: float
    request: TrialRequest
