"""Messages between agent and controller over HTTP (``/api/v1``), apart from results."""

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
    """Answer: the device's secret token (shown once), its broker, the interval of heartbeats."""

    device: str
    token: str
    broker_url: str
    heartbeat_s: float


@dataclass(frozen=True)
class Heartbeat:
    """``PUT /devices/{name}/heartbeat``: the agent is alive, executing ``attempt_id`` or nothing.

    ``at_unix_ns`` is the agent's clock, 0 from agents that do not send it; ``temperature_c`` the
    hottest thermal zone.
    """

    agent_version: str
    attempt_id: str = ""
    at_unix_ns: int = 0
    storage_free_mib: Optional[float] = None
    temperature_c: Optional[float] = None


@dataclass(frozen=True)
class HeartbeatAnswer:
    """Answer. ``renewed``: the lease of the attempt was renewed. ``cancel``: stop it now."""

    renewed: bool
    cancel: bool
    heartbeat_s: float
    lease_s: float


@dataclass(frozen=True)
class Started:
    """Answer of ``POST /attempts/{id}/start``: the attempt is leased for ``lease_s`` seconds.

    Heartbeats renew the lease; an agent that cannot renew it in time kills the child.
    """

    lease_s: float
    request: TrialRequest


INLINE_HEADER = "Inline-Bytes"
"""Header in answers to starts and heartbeats: most bytes of samples that a result may include. It
is not a key of those answers, because an agent refuses keys that it does not know."""

INLINE_KEY = "samples_base64"
"""Key of ``PUT /attempts/{id}/result``, beside the result's own keys: its samples."""


def with_samples(result_json: str, samples: bytes) -> str:
    """The JSON of a result, with its samples included."""
    data = json.loads(result_json)
    data[INLINE_KEY] = base64.b64encode(samples).decode("ascii")
    return json.dumps(data, separators=(",", ":"))


def take_samples(data: Any) -> Optional[bytes]:
    """Remove the included samples from a result, as plain data, and return them; ``None``: it has
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
