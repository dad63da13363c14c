"""The HTTP API over a real socket: who may do what."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from agent.contract import codec
from agent.contract.api_messages import Enrolled, Enrolment, Heartbeat, HeartbeatAnswer
from orchestrator.client import Client
from orchestrator.domain.errors import UserError
from support.farms import AGENT_VERSION, device_facts, spec_text
from support.http_calls import BYTES, PEOPLE_READ, SHA256, beat, kind
from support.serving import Served

PEOPLE_WRITE = [
    ("/sweeps", {"text": spec_text()}),
    ("/sweeps/first/cancel", {}),
    ("/sweeps/first/resume", {}),
    ("/models", {"name": "m", "file_name": "m.onnx", "sha256": SHA256}),
    ("/devices/new/join-token", {}),
    ("/devices/board/drain", {}),
    ("/devices/board/enable", {}),
    ("/devices/board/maintenance", {"on": True}),
    ("/devices/board/checks", {}),
]


@pytest.mark.parametrize(("path", "body"), PEOPLE_WRITE)
@pytest.mark.parametrize("role", ["viewer", "device", "join", "nobody", "wrong"])
def test_only_an_operator_changes_the_farm(
    served: Served, board: httpx.Client, role: str, path: str, body: dict[str, str]
) -> None:
    before = served.kit.rows()
    headers = {
        "viewer": {"Authorization": f"Bearer {served.token('viewer')}"},
        "device": {"Authorization": board.headers["Authorization"]},
        "join": {"Authorization": f"Bearer {served.token('join', 'board')}"},
        "nobody": {},
        "wrong": {"Authorization": "Bearer " + "x" * 43},
    }[role]
    with served.http() as http:
        assert kind(http.post(path, json=body, headers=headers)) == (403, "not_allowed")
    after = served.kit.rows()
    assert {**after, "tokens": 0} == {**before, "tokens": 0}


@pytest.mark.parametrize("path", PEOPLE_READ)
def test_a_viewer_reads_and_a_device_does_not(
    served: Served, board: httpx.Client, path: str
) -> None:
    with served.http(served.token("viewer")) as viewer, served.http() as nobody:
        assert viewer.get(path).status_code == 200
        assert kind(nobody.get(path)) == (403, "not_allowed")
    assert kind(board.get(path)) == (403, "not_allowed")


def test_a_viewer_gets_a_model_drawn_and_its_file(
    served: Served, board: httpx.Client, tmp_path: Path
) -> None:
    sha256 = served.kit.add_model().artifacts[0].sha256
    with served.http(served.token("viewer")) as http, served.http() as nobody:
        answer = http.get("/models/dense/network")
        assert answer.headers["content-type"] == "image/svg+xml"
        assert "Gemm" in answer.text
        assert kind(http.get("/models/none/network")) == (404, "not_found")
        assert kind(http.get("/models/dense/network?format=pt2")) == (422, "bad_input")
        assert kind(nobody.get("/models/dense/network")) == (403, "not_allowed")
    assert kind(board.get("/models/dense/network")) == (403, "not_allowed")
    with Client(served.url, served.token("viewer")) as client:
        assert client.network_svg("dense", "onnx") == answer.text
        client.fetch(sha256, tmp_path / "dense.onnx")
        assert (tmp_path / "dense.onnx").read_bytes() == served.kit.farm.blobs.read(sha256)
        with pytest.raises(UserError, match="there is no blob"):
            client.fetch("0" * 64, tmp_path / "none.onnx")
    assert not (tmp_path / "none.onnx").exists()


def test_a_device_speaks_for_itself_only(served: Served, board: httpx.Client) -> None:
    served.kit.add_model()
    served.kit.device("other")
    served.kit.submit(devices="{names: [other]}")
    served.kit.beat(served.kit.device_id("other"))
    attempt = served.kit.last_rung()
    facts = codec.to_plain(device_facts())
    assert kind(board.put("/devices/other/heartbeat", json=beat())) == (403, "not_allowed")
    assert kind(board.put("/devices/other/facts", json=facts)) == (403, "not_allowed")
    assert kind(board.post(f"/attempts/{attempt}/start")) == (404, "unknown_attempt")
    result = codec.dumps(served.kit.ok(attempt))
    answer = board.put(f"/attempts/{attempt}/result", content=result)
    assert kind(answer) == (404, "unknown_attempt")
    assert board.put("/devices/board/facts", json=facts).status_code == 204


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_no_person_speaks_for_a_device(served: Served, board: httpx.Client, role: str) -> None:
    with served.http(served.token(role)) as http:
        assert kind(http.put("/devices/board/heartbeat", json=beat())) == (403, "not_allowed")
        assert kind(http.post("/attempts/x/start")) == (403, "not_allowed")


def test_a_join_token_opens_enrolment_and_nothing_else(served: Served, operator: Client) -> None:
    join = operator.join_token("board", tags={"rack": "2"})
    enrolment = codec.dumps(Enrolment(join.join_token, "board", AGENT_VERSION, device_facts()))
    with served.http(join.join_token) as http:
        for path in (*PEOPLE_READ, f"/blobs/{SHA256}"):
            assert kind(http.get(path)) == (403, "not_allowed")
        assert kind(http.put(f"/blobs/{SHA256}", content=BYTES)) == (403, "not_allowed")
        assert kind(http.put("/devices/board/heartbeat", json=beat())) == (403, "not_allowed")
        enrolled = codec.loads(Enrolled, http.post("/enroll", content=enrolment).content)
        assert kind(http.post("/enroll", content=enrolment)) == (403, "not_allowed")
    with served.http(enrolled.token) as http:
        answer = http.put("/devices/board/heartbeat", content=codec.dumps(Heartbeat("1")))
        assert codec.loads(HeartbeatAnswer, answer.content).heartbeat_s == 5.0
    assert operator.device("board").labels()["rack"] == "2"


def test_people_retire_devices_and_devices_do_not(
    served: Served, operator: Client, board: httpx.Client
) -> None:
    assert kind(board.delete("/devices/board")) == (403, "not_allowed")
    with served.http(served.token("viewer")) as http:
        assert kind(http.delete("/devices/board")) == (403, "not_allowed")
    operator.retire("board")
    assert operator.devices() == []
    assert kind(board.put("/devices/board/heartbeat", json=beat())) == (403, "not_allowed")
    with pytest.raises(UserError, match="no device 'board'"):
        operator.retire("board")


def test_a_token_is_asked_about_without_a_sign_of_life(
    served: Served, operator: Client, board: httpx.Client
) -> None:
    before = operator.device("board").seen_at
    served.kit.clock.advance(60)
    assert operator.device("board").connection == "offline"
    assert board.get("/devices/board/token").status_code == 204
    view = operator.device("board")
    assert (view.seen_at, view.connection) == (before, "offline")
    served.kit.enrol("other")
    assert kind(board.get("/devices/other/token")) == (403, "not_allowed")
    for secret in (served.token("admin"), "unknown"):
        with served.http(secret) as http:
            assert kind(http.get("/devices/board/token")) == (403, "not_allowed")


def test_operators_change_a_class_and_nobody_less(
    served: Served, operator: Client, board: httpx.Client
) -> None:
    assert operator.classify("board", "arm64-generic").device_class == "arm64-generic"
    body = {"device_class": "intel-cpu"}
    assert kind(board.post("/devices/board/class", json=body)) == (403, "not_allowed")
    with served.http(served.token("viewer")) as http:
        assert kind(http.post("/devices/board/class", json=body)) == (403, "not_allowed")
    with pytest.raises(UserError, match="device class 'toaster'"):
        operator.classify("board", "toaster")
    assert operator.device("board").device_class == "arm64-generic"
