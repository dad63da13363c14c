"""What the agent and the controller say to each other over HTTP (``/api/v1``), beside results."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Optional

from agent.contract.device import DeviceFacts
from agent.contract.trial import TrialRequest


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


INLINE_HEADER = "Inline-Bytes"
"""Of the answers to starts and heartbeats: so many bytes of samples a result may bring along. Not a
key of those answers: an agent refuses one that it does not know."""

INLINE_KEY = "samples_base64"
"""Of ``PUT /attempts/{id}/result``, beside the result's own keys: the samples that it names."""


def with_samples(result_json: str, samples: bytes) -> str:
    """A result that brings its samples along."""
    data = json.loads(result_json)
    data[INLINE_KEY] = base64.b64encode(samples).decode("ascii")
    return json.dumps(data, separators=(",", ":"))


def take_samples(data: Any) -> Optional[bytes]:
    """The samples that a result, as plain data, brings along, taken out of it; ``None``: it brings
    none. Raises ``ValueError``."""
    if not isinstance(data, dict) or INLINE_KEY not in data:
        return None
    text = data.pop(INLINE_KEY)
    if not isinstance(text, str):
        raise ValueError("expected base64, found %s" % json.dumps(text)[:80])
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error too
        raise ValueError("expected base64: %s" % error) from None
