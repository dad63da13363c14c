"""The HTTP API over a real socket: answers to the client's errors and the controller's."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from agent.contract import codec
from orchestrator.client import Client, NoController
from orchestrator.domain.errors import FarmError, NotAllowed, UserError
from support.farms import device_facts
from support.http_calls import beat, kind
from support.serving import Served

BAD_BODIES = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"text": "\xff"}',
    "a list": b"[]",
    "a number": b"1",
    "deep": b"[" * 100_000,
    "unknown key": b'{"text": "x", "agent_version": "1", "sauce": "y"}',
    "half a character as key": b'{"\\ud800": 1}',
    "half a character": b'{"text": "\\ud800", "agent_version": "\\ud800"}',
    "wrong type": b'{"text": 1, "agent_version": 1}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
@pytest.mark.parametrize("path", ["/sweeps", "/sweeps/plan", "/models", "/devices/new/join-token"])
def test_a_persons_malformed_body_is_answered_as_data(
    served: Served, path: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    with served.http(served.token("admin")) as http:
        status, name = kind(http.post(path, content=body, headers=headers))
    assert (status in (400, 422), name) == (True, "bad_input")
    assert served.kit.rows()["devices"] == 0


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_devices_malformed_body_is_answered_as_data(board: httpx.Client, body: bytes) -> None:
    for path in ("/devices/board/heartbeat", "/devices/board/facts", "/attempts/x/result"):
        assert kind(board.put(path, content=body)) == (422, "bad_input")
    assert kind(board.post("/enroll", content=body)) == (422, "bad_input")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_json_does_not_have_are_refused(
    served: Served, board: httpx.Client, number: str
) -> None:
    facts = codec.dumps(device_facts()).replace('"memory_mib":15868.0', f'"memory_mib":{number}')
    assert number in facts
    assert kind(board.put("/devices/board/facts", content=facts)) == (422, "bad_input")
    with Client(served.url, served.token("viewer")) as viewer:
        assert viewer.device("board").facts["memory_mib"] == 15868.0  # type: ignore[index]


def test_a_message_may_be_so_long(board: httpx.Client) -> None:
    body = b'{"agent_version": "' + b"x" * (4 << 20) + b'"}'
    assert kind(board.put("/devices/board/heartbeat", content=body)) == (422, "bad_input")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("DELETE", "/devices", 405),
        ("GET", "/devices/none", 404),
        ("GET", "/sweeps/none", 404),
        ("GET", "/sweeps/none/report", 404),
        ("GET", "/models/none", 404),
        ("GET", "/events?limit=0", 422),
        ("GET", "/events?after=99999999999999999999", 422),
        ("GET", "/sweeps/none/report?format=pdf", 422),
    ],
)
def test_what_is_not_there_is_answered_as_data(
    served: Served, method: str, path: str, status: int
) -> None:
    with served.http(served.token("admin")) as http:
        assert kind(http.request(method, path))[0] == status


def test_the_client_raises_the_errors_by_name(served: Served, operator: Client) -> None:
    with pytest.raises(UserError, match="there is no sweep 'none'; known: none yet"):
        operator.sweep("none")
    with Client(served.url, "wrong") as stranger, pytest.raises(NotAllowed, match="unknown"):
        stranger.devices()
    with Client("http://127.0.0.1:9", "t") as lost, pytest.raises(NoController, match="answers"):
        lost.devices()


def test_a_failure_of_the_farm_is_not_the_users(
    served: Served, operator: Client, board: httpx.Client
) -> None:
    """Stored samples that do not decode are the controller's fault: no ``UserError``."""
    served.kit.add_model()
    served.kit.submit()
    board.put("/devices/board/heartbeat", json=beat())
    attempt = served.kit.last_rung()
    result = served.kit.ok(attempt)
    assert result.samples is not None
    served.kit.give(served.kit.device_id("board"), result)
    served.kit.farm.blobs.path(result.samples.sha256).write_bytes(b"rotten")
    with pytest.raises(FarmError) as caught:
        operator.report("first")
    assert not isinstance(caught.value, UserError)
    assert result.samples.sha256 in str(caught.value)


def test_a_database_that_is_away_is_answered_as_data_until_it_is_back(
    served: Served, operator: Client, board: httpx.Client
) -> None:
    engine = served.kit.farm.database.engine
    home = Path(engine.url.database or "").parent
    away = home.with_name("away")
    engine.dispose()
    home.rename(away)
    try:
        answer = board.put("/devices/board/heartbeat", json=beat())
        assert kind(answer) == (503, "database_away")
        with pytest.raises(FarmError, match="database does not answer now") as caught:
            operator.sweeps()
        assert not isinstance(caught.value, UserError)
    finally:
        away.rename(home)
    assert board.put("/devices/board/heartbeat", json=beat()).status_code == 200
    assert operator.sweeps() == []
