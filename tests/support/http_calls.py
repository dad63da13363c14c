"""What the tests of the HTTP API send, and how they read an answer."""

from __future__ import annotations

import hashlib

import httpx

from support.farms import AGENT_VERSION

BYTES = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BYTES).hexdigest()


def beat(attempt_id: str = "") -> dict[str, str]:
    return {"agent_version": AGENT_VERSION, "attempt_id": attempt_id}


def kind(response: httpx.Response) -> tuple[int, str]:
    """The status and the error's kind; every error is this one shape."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"kind", "message"}
    assert isinstance(body["error"]["message"], str)
    return response.status_code, body["error"]["kind"]


PEOPLE_READ = [
    "/devices",
    "/devices/board",
    "/devices/board/checks",
    "/models",
    "/sweeps",
    "/events",
]
