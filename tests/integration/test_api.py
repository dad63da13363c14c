"""The HTTP API over a real socket: who may do what, and what mistakes are answered with."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from agent import codec
from agent.uplink_messages import Enrolled, Enrolment, Heartbeat, HeartbeatAnswer, Started
from orchestrator.api.blobs import SMALL_BYTES
from orchestrator.client import Client, NoController
from orchestrator.domain.errors import FarmError, NotAllowed, UserError
from orchestrator.service import dispatch
from support import onnx_files
from support.farms import AGENT_VERSION, FarmKit, device_facts, judged, spec_text
from support.serving import Served, serving

BYTES = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def served(sqlite_farm: FarmKit) -> Iterator[Served]:
    with serving(sqlite_farm) as running:
        yield running


@pytest.fixture
def operator(served: Served) -> Iterator[Client]:
    with Client(served.url, served.token("operator")) as client:
        yield client


@pytest.fixture
def board(served: Served) -> Iterator[httpx.Client]:
    """HTTP with the token of the enrolled device ``board``, which has beaten."""
    with served.http(served.kit.enrol("board").token) as http:
        assert http.put("/devices/board/heartbeat", json=beat()).status_code == 200
        yield http


def beat(attempt_id: str = "") -> dict[str, str]:
    return {"agent_version": AGENT_VERSION, "attempt_id": attempt_id}


def kind(response: httpx.Response) -> tuple[int, str]:
    """The status and the error's kind; every error is this one shape."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"kind", "message"}
    assert isinstance(body["error"]["message"], str)
    return response.status_code, body["error"]["kind"]


def test_a_person_does_the_main_job(
    served: Served, operator: Client, board: httpx.Client, tmp_path: Path
) -> None:
    path = tmp_path / "dense.onnx"
    path.write_bytes(onnx_files.dense_bytes("n"))
    with pytest.raises(UserError, match=r"dense\.onnx: input 'x' has the free shape"):
        operator.add_model(path)
    assert served.kit.blobs() == set()
    assert operator.add_model(path, shapes={"x": [1, 6]}).name == "dense"
    text = spec_text(trials=2)
    assert operator.plan(text, "mine.yaml").trials == 2
    assert operator.submit(text, "mine.yaml", "other").name == "other"
    board.put("/devices/board/heartbeat", json=beat())
    for _ in range(2):
        attempt = served.kit.last_rung()
        started = codec.loads(Started, board.post(f"/attempts/{attempt}/start").content)
        assert board.get(f"/blobs/{started.request.model.sha256}").content == path.read_bytes()
        result = codec.dumps(served.kit.ok(attempt, list(range(1000, 1200))))
        given = board.put(f"/attempts/{attempt}/result", content=result)
        assert (given.status_code, given.json()) == (200, {"accepted": True})
    view = operator.sweep("other")
    assert (view.state, view.counts) == ("done", {"done": 2})
    assert [v.name for v in operator.sweeps()] == ["other"]
    for form in ("json", "html", "markdown", "csv"):
        assert "dense" in operator.report_text("other", form)
    assert [d.name for d in operator.devices()] == ["board"]


PEOPLE_READ = [
    "/devices",
    "/devices/board",
    "/devices/board/checks",
    "/models",
    "/sweeps",
    "/events",
]
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


def test_a_check_is_asked_for_run_and_read(
    served: Served, operator: Client, board: httpx.Client
) -> None:
    with pytest.raises(UserError, match="there is no device 'nobody'"):
        operator.ask_check("nobody")
    asked = operator.ask_check("board")
    assert (asked.why, asked.state, asked.ok) == ("asked for", "pending", None)
    with pytest.raises(UserError, match="health check 'board 999'"):
        operator.check("board", 999)
    kit = served.kit
    dispatch.dispatch(kit.farm, kit.device_id("board"))
    attempt = kit.last_rung()
    assert board.post(f"/attempts/{attempt}/start").status_code == 200
    given = codec.dumps(judged(kit.ok(attempt)))
    assert board.put(f"/attempts/{attempt}/result", content=given).status_code == 200
    assert operator.check("board", asked.id).ok
    assert [c.id for c in operator.checks("board")] == [asked.id]
    assert operator.device("board").health == "good"
    assert operator.maintain("board", True).health == "maintenance"


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


def test_the_controller_says_where_boards_reach_it(served: Served, operator: Client) -> None:
    said = operator.controller()
    assert said.url == served.kit.farm.settings.public_url
    assert not said.local_broker  # redis://broker.invalid


def test_superseded_is_409(served: Served, operator: Client, board: httpx.Client) -> None:
    served.kit.add_model()
    served.kit.submit()
    board.put("/devices/board/heartbeat", json=beat())
    attempt = served.kit.last_rung()
    operator.cancel("first")
    assert kind(board.post(f"/attempts/{attempt}/start")) == (409, "superseded")
    answer = board.put(f"/attempts/{attempt}/result", content=codec.dumps(served.kit.ok(attempt)))
    assert kind(answer) == (409, "superseded")
    cancel = board.put("/devices/board/heartbeat", json=beat(attempt))
    assert codec.loads(HeartbeatAnswer, cancel.content).cancel


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


def test_blobs_go_in_and_come_out_whole_and_by_range(served: Served) -> None:
    path = f"/blobs/{SHA256}"
    with served.http(served.token("operator")) as person:
        assert person.head(path).status_code == 404
        assert kind(person.get(path)) == (404, "not_found")
        assert person.put(path, content=BYTES).status_code == 201
        assert person.put(path, content=BYTES).status_code == 200
        head = person.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(BYTES)))
        assert head.headers["etag"] == f'"{SHA256}"'
        assert person.get(path).content == BYTES
        rest = person.get(path, headers={"Range": "bytes=10000-"})
        assert (rest.status_code, rest.content) == (206, BYTES[10000:])
        assert rest.headers["content-range"] == f"bytes 10000-{len(BYTES) - 1}/{len(BYTES)}"
        beyond = person.get(path, headers={"Range": f"bytes={len(BYTES)}-"})
        assert beyond.status_code == 416


def test_a_folder_is_sent_as_one_archive(served: Served, operator: Client, tmp_path: Path) -> None:
    """No TensorFlow here: the archive arrives whole, and is refused for want of it alone."""
    folder = tmp_path / "net"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    with pytest.raises(UserError, match=r"net: this folder holds no saved_model\.pb"):
        operator.add_model(folder)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(UserError, match=f"^{re.escape(str(folder))}: .*tensorflow"):
        operator.add_model(folder)
    with pytest.raises(UserError, match="not a TFLite model"):
        operator.add_model(folder, form="tflite")
    assert served.kit.blobs() == set()


def test_a_damaged_or_oversize_upload_leaves_nothing(
    served: Served, operator: Client, board: httpx.Client, tmp_path: Path
) -> None:
    answer = board.put(f"/blobs/{SHA256}", content=BYTES[:-1])
    assert kind(answer) == (422, "bad_input")
    assert "hashes to" in answer.json()["error"]["message"]
    for name in ("xyz", SHA256.upper(), "0" * 63):
        assert kind(board.put(f"/blobs/{name}", content=b"x")) == (422, "bad_input")
        assert kind(board.get(f"/blobs/{name}")) == (422, "bad_input")
    big = tmp_path / "big.onnx"
    big.write_bytes(os.urandom(served.kit.farm.settings.max_upload_bytes * 8))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        operator.add_model(big)
    assert served.kit.blobs() == set()


def test_an_upload_that_breaks_off_leaves_nothing(served: Served, board: httpx.Client) -> None:
    def broken() -> Iterator[bytes]:
        yield BYTES
        raise OSError("cable")

    with pytest.raises(OSError, match="cable"):
        board.put(f"/blobs/{SHA256}", content=broken())
    # another upload of the same blob is not disturbed by what is left of the first
    assert board.put(f"/blobs/{SHA256}", content=BYTES).status_code == 201
    assert [b for b in served.kit.blobs() if not b.startswith(".incoming")] == [SHA256]


@pytest.mark.parametrize("size", [200, 2 * SMALL_BYTES])
def test_an_upload_that_breaks_off_is_no_error_of_the_controller(
    served: Served, board: httpx.Client, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    said: list[str] = []
    log = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(log, "error", lambda message, *_, **__: said.append(message))
    url = httpx.URL(served.url)
    head = (
        f"PUT /api/v1/blobs/{SHA256} HTTP/1.1\r\nHost: {url.host}\r\n"
        f"Content-Length: {size}\r\nAuthorization: {board.headers['authorization']}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80)) as line:
        line.sendall(head.encode() + BYTES[:100])
        if size > SMALL_BYTES:  # less is read whole before it is written
            _until(lambda: bool(served.kit.blobs()))
    _until(lambda: not served.kit.blobs())
    assert board.put("/devices/board/heartbeat", json=beat()).status_code == 200
    assert said == []


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_others_are_answered_while_a_disk_is_slow(
    served: Served, board: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats must not wait for somebody's fsync: leases would run out."""
    slow, done, statuses = threading.Event(), threading.Event(), list[int]()

    def wait(_descriptor: int) -> None:
        slow.set()
        assert done.wait(20)

    def upload() -> None:
        with served.http(served.token("operator")) as http:
            statuses.append(http.put(f"/blobs/{SHA256}", content=BYTES).status_code)

    monkeypatch.setattr(os, "fsync", wait)
    thread = threading.Thread(target=upload)
    thread.start()
    try:
        assert slow.wait(20)
        assert board.put("/devices/board/heartbeat", json=beat()).status_code == 200
    finally:
        done.set()
        thread.join()
    assert statuses == [201]


def test_a_failure_of_the_farm_is_not_the_users(
    served: Served, operator: Client, board: httpx.Client
) -> None:
    """Samples that no longer decode: the controller's own fault, so not a ``UserError``."""
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


def test_retiring_says_how_many_trials_it_took_back(served: Served, operator: Client) -> None:
    served.kit.device("board")
    served.kit.add_model()
    served.kit.submit(trials=2)
    assert operator.device("board").waiting == 2
    retired = operator.retire("board")
    assert (retired.cancelled, retired.kept) == (2, True)
    assert operator.device("board").connection == "retired"
    assert operator.sweep("first").state == "cancelled"
