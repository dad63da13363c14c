"""The HTTP client: addresses, named errors, repetition; and the result sender."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.contract import codec
from agent.contract.api_messages import (
    INLINE_HEADER,
    Enrolled,
    Enrolment,
    Heartbeat,
    HeartbeatAnswer,
    take_samples,
)
from agent.contract.comparison import check
from agent.contract.device import DeviceFacts
from agent.contract.trial import SCHEMA, Built, Fidelity, Samples, TrialResult
from agent.worker.errors import (
    AgentError,
    AttemptSuperseded,
    AttemptUnknown,
    BadInput,
    BlobMissing,
    ControllerFailed,
    ControllerUnreachable,
    RequestRefused,
    Unauthorised,
)
from agent.worker.uplink import result_sender
from agent.worker.uplink.http_client import Uplink, back_off, check_controller_url
from agent.worker.uplink.outbox import Outbox
from agent.worker.uplink.result_sender import deliver_due
from support.played_board import sha

FACTS = DeviceFacts("h", "x86_64", "Linux", "3.11")
Handler = Callable[[httpx.Request], httpx.Response]


class Net:
    """Answers by a handler; notes requests and the waits between them."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self.now = 0.0
        self.uplink = Uplink(
            "http://farm:8080/",
            "secret",
            transport=httpx.MockTransport(self._handle),
            wait=self._wait,
            clock=lambda: self.now,
        )
        self._handler = handler

    def _handle(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return self._handler(request)

    def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False


def answering(status: int, body: object = None) -> Net:
    return Net(lambda _: httpx.Response(status, json=body))


def plain(value: object) -> object:
    return json.loads(codec.dumps(value))


def test_what_is_asked_where() -> None:
    answer = HeartbeatAnswer(True, False, 5.0, 20.0)
    net = answering(200, plain(answer))
    beat = Heartbeat("0.1", "a1", at_unix_ns=5, storage_free_mib=1.5)
    assert net.uplink.heartbeat("orin/1", beat) == answer
    [request] = net.requests
    assert (request.method, request.url.raw_path) == (
        "PUT",
        b"/api/v1/devices/orin%2F1/heartbeat",
    )
    assert request.headers["authorization"] == "Bearer secret"
    assert json.loads(request.content) == {
        "agent_version": "0.1",
        "attempt_id": "a1",
        "at_unix_ns": 5,
        "storage_free_mib": 1.5,
        "temperature_c": None,
    }


def test_enrolling_and_facts() -> None:
    enrolled = Enrolled("d", "token", "redis://", 5.0)
    net = answering(200, plain(enrolled))
    assert net.uplink.enrol(Enrolment("join", "d", "0.1", FACTS)) == enrolled
    net.uplink.facts("d", FACTS)
    assert [(r.method, r.url.path) for r in net.requests] == [
        ("POST", "/api/v1/enroll"),
        ("PUT", "/api/v1/devices/d/facts"),
    ]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Unauthorised),
        (403, Unauthorised),
        (404, AttemptUnknown),
        (409, AttemptSuperseded),
        (400, RequestRefused),
        (422, RequestRefused),
        (429, ControllerFailed),
        (500, ControllerFailed),
        (503, ControllerFailed),
    ],
)
def test_a_status_is_a_named_error_with_the_controllers_words(
    status: int, error: type[AgentError]
) -> None:
    net = answering(status, {"error": {"kind": "k", "message": "these words"}})
    with pytest.raises(error, match="these words"):
        net.uplink.result("a1", "{}")


def test_an_answer_out_of_contract_is_the_controllers_failure() -> None:
    with pytest.raises(ControllerFailed, match="unknown key"):
        answering(200, {"colour": 1}).uplink.heartbeat("d", Heartbeat("0.1"))


def test_a_request_out_of_contract_is_not() -> None:
    with pytest.raises(codec.ContractError):
        answering(200, {"lease_s": 1, "request": {"colour": 1}}).uplink.start("a1")


def flaky(failures: int) -> Net:
    count = itertools.count()

    def handle(request: httpx.Request) -> httpx.Response:
        if next(count) < failures:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(204)

    return Net(handle)


def test_an_unreachable_controller_is_asked_again_with_growing_waits() -> None:
    net = flaky(5)
    net.uplink.facts("d", FACTS, patience_s=60)
    assert len(net.requests) == 6
    assert all(low / 2 <= w <= low for w, low in zip(net.waits, (0.25, 0.5, 1, 2, 4), strict=True))


def test_patience_ends() -> None:
    net = flaky(10**6)
    with pytest.raises(ControllerUnreachable, match="http://farm:8080"):
        net.uplink.facts("d", FACTS, patience_s=10)
    assert net.now <= 10


def test_without_patience_there_is_one_try() -> None:
    net = flaky(1)
    with pytest.raises(ControllerUnreachable):
        net.uplink.facts("d", FACTS)
    assert len(net.requests) == 1


def test_waits_are_bounded() -> None:
    waits = list(itertools.islice(back_off(jitter=lambda _, high: high), 9))
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 10, 10, 10]


@pytest.mark.parametrize("url", ["", "farm:8080", "ftp://farm", "http://", "//farm"])
def test_what_is_no_controller(url: str) -> None:
    with pytest.raises(BadInput, match="http://HOST:PORT"):
        check_controller_url(url)


def ranged(content: bytes) -> Handler:
    def handle(request: httpx.Request) -> httpx.Response:
        asked = request.headers.get("range", "")
        if not asked:
            return httpx.Response(200, content=content)
        offset = int(asked.removeprefix("bytes=").removesuffix("-"))
        if offset >= len(content):
            return httpx.Response(416)
        return httpx.Response(206, content=content[offset:])

    return handle


@pytest.mark.parametrize(("offset", "rest"), [(0, b"content"), (3, b"tent"), (7, b"")])
def test_a_blob_from_an_offset(offset: int, rest: bytes) -> None:
    with Net(ranged(b"content")).uplink.open_blob("0" * 64, offset) as (start, chunks):
        assert (start, b"".join(chunks)) == (offset, rest)


def test_a_blob_that_is_not_there() -> None:
    with (
        pytest.raises(BlobMissing),
        answering(404).uplink.open_blob("0" * 64, 0),
    ):
        pass
    assert not answering(404).uplink.has_blob("0" * 64)
    with (
        pytest.raises(ControllerFailed),
        answering(500, {"error": {"message": "?"}}).uplink.open_blob("0" * 64, 0),
    ):
        pass


# --- the result sender


class Controller:
    """Takes blobs and results; ``status`` is its answer to a result."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.results: dict[str, TrialResult] = {}
        self.status = self.inline_status = 200
        self.down = False
        self.net = Net(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        name = request.url.path.split("/")[4]
        if "/blobs/" not in request.url.path:
            data = json.loads(request.content)
            if take_samples(data) is not None:
                return httpx.Response(self.inline_status)
            if self.status < 300:
                self.results[name] = codec.from_plain(TrialResult, data)
            return httpx.Response(self.status)
        if request.method == "HEAD":
            return httpx.Response(200 if name in self.blobs else 404)
        if sha(request.content) != name:
            return httpx.Response(422)
        self.blobs[name] = request.content
        return httpx.Response(201)


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox")
    yield box
    box.close()


def result_with(sha256: str) -> str:
    samples = Samples(sha256, 1, 1, ("caller",), "int64le+zstd", 1, 1, "precision", 1.0)
    return codec.dumps(TrialResult(SCHEMA, "a1", "ok", "0.1", samples=samples))


def posted(outbox: Outbox, tmp_path: Path, content: bytes = b"samples") -> Path:
    path = tmp_path / f"{sha(b'samples')}.zst"
    path.write_bytes(content)
    outbox.put("a1", result_with(path.stem), path)
    return path


def test_samples_go_first_then_the_result(
    controller: Controller, outbox: Outbox, tmp_path: Path
) -> None:
    path = posted(outbox, tmp_path)
    assert deliver_due(outbox, controller.net.uplink) == 1
    assert [r.method for r in controller.net.requests] == ["PUT", "PUT"]
    assert controller.blobs == {path.stem: b"samples"}
    assert controller.results["a1"].status == "ok"
    assert outbox.outcome("a1") == "accepted"
    assert not path.exists()


def test_much_that_arrived_before_is_not_sent_again(
    controller: Controller, outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_sender, "SMALL_BYTES", 3)
    controller.blobs[posted(outbox, tmp_path).stem] = b"samples"
    deliver_due(outbox, controller.net.uplink)
    assert [r.method for r in controller.net.requests] == ["HEAD", "PUT"]


@pytest.mark.parametrize(
    ("begun", "ranges"),
    [
        ("", ["bytes 0-6/7"]),
        ("4", ["bytes 4-6/7"]),
        ("7", ["bytes 6-6/7"]),
        ("99", ["bytes 6-6/7"]),
    ],
)
def test_much_goes_on_where_it_was_cut(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: str, ranges: list[str]
) -> None:
    monkeypatch.setattr(result_sender, "SMALL_BYTES", 3)
    posted(outbox, tmp_path)

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "HEAD":
            return httpx.Response(404, headers={"Upload-Offset": begun} if begun else {})
        return httpx.Response(201)

    net = Net(handle)
    assert deliver_due(outbox, net.uplink) == 1
    sent = [r for r in net.requests if "/blobs/" in r.url.path and r.method == "PUT"]
    assert [r.headers["content-range"] for r in sent] == ranges
    first = int(ranges[0].removeprefix("bytes ").partition("-")[0])
    assert sent[0].content == b"samples"[first:]


@pytest.mark.parametrize("status", [416, 422])
def test_where_the_part_there_is_no_good_all_is_sent(tmp_path: Path, status: int) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"samples")
    net = Net(
        lambda r: httpx.Response(201 if r.headers["content-range"] == "bytes 0-6/7" else status)
    )
    net.uplink.put_blob("0" * 64, path, 3)
    assert [r.content for r in net.requests] == [b"ples", b"samples"]
    with pytest.raises(RequestRefused):
        answering(status).uplink.put_blob("0" * 64, path, 0)


@pytest.mark.parametrize(
    ("status", "outcome"), [(409, "superseded"), (404, "not_ours"), (422, "refused")]
)
def test_answers_for_good(
    controller: Controller, outbox: Outbox, tmp_path: Path, status: int, outcome: str
) -> None:
    path = posted(outbox, tmp_path)
    controller.status = status
    assert deliver_due(outbox, controller.net.uplink) == 1
    assert outbox.outcome("a1") == outcome
    assert outbox.waiting() == 0
    assert not path.exists()


@pytest.mark.parametrize("status", [500, 503, 401, 0])
def test_what_passes_with_time_is_tried_again(
    controller: Controller, outbox: Outbox, tmp_path: Path, status: int
) -> None:
    path = posted(outbox, tmp_path)
    controller.status, controller.down = status, status == 0
    assert deliver_due(outbox, controller.net.uplink) == 0
    assert outbox.waiting() == 1
    assert path.exists()
    assert outbox.due() is None


# --- results that bring their samples along


def offered(controller: Controller, limit: int = 100) -> Uplink:
    controller.net.uplink.inline_bytes = limit
    return controller.net.uplink


def test_small_samples_go_with_their_result(
    controller: Controller, outbox: Outbox, tmp_path: Path
) -> None:
    path = posted(outbox, tmp_path)
    assert deliver_due(outbox, offered(controller)) == 1
    [request] = controller.net.requests
    assert take_samples(json.loads(request.content)) == b"samples"
    assert outbox.outcome("a1") == "accepted"
    assert not path.exists()


def test_larger_ones_go_first(controller: Controller, outbox: Outbox, tmp_path: Path) -> None:
    path = posted(outbox, tmp_path)
    assert deliver_due(outbox, offered(controller, 6)) == 1
    assert controller.blobs == {path.stem: b"samples"}


def test_what_was_built_goes_first(controller: Controller, outbox: Outbox, tmp_path: Path) -> None:
    path = tmp_path / f"{sha(b'built')}.zip"
    path.write_bytes(b"built")
    result = TrialResult(SCHEMA, "a1", "ok", "0.1", built=Built("onnx", "int8", path.stem, 5))
    outbox.put("a1", codec.dumps(result), path)
    deliver_due(outbox, offered(controller))
    assert controller.blobs == {path.stem: b"built"}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_controller_that_does_not_take_them_so_gets_them_apart(
    controller: Controller, outbox: Outbox, tmp_path: Path, status: int
) -> None:
    path = posted(outbox, tmp_path)
    controller.inline_status = status
    assert deliver_due(outbox, offered(controller)) == 1
    assert [r.url.path.split("/")[3] for r in controller.net.requests] == [
        "attempts", "blobs", "attempts",
    ]  # fmt: skip
    assert controller.blobs == {path.stem: b"samples"}
    assert outbox.outcome("a1") == "accepted"


@pytest.mark.parametrize(("status", "outcome"), [(409, "superseded"), (404, "not_ours")])
def test_answers_for_good_to_both_at_once(
    controller: Controller, outbox: Outbox, tmp_path: Path, status: int, outcome: str
) -> None:
    path = posted(outbox, tmp_path)
    controller.inline_status = status
    assert deliver_due(outbox, offered(controller)) == 1
    assert len(controller.net.requests) == 1
    assert outbox.outcome("a1") == outcome
    assert not path.exists()


@pytest.mark.parametrize("status", [429, 500, 503, 401])
def test_what_passes_with_time_keeps_both(
    controller: Controller, outbox: Outbox, tmp_path: Path, status: int
) -> None:
    path = posted(outbox, tmp_path)
    controller.inline_status = status
    assert deliver_due(outbox, offered(controller)) == 0
    assert len(controller.net.requests) == 1
    assert outbox.waiting() == 1
    assert path.exists()


def test_a_controller_of_the_release_before_gets_the_result_in_its_words(
    controller: Controller, outbox: Outbox
) -> None:
    """It refuses keys that it does not know; nothing but these is lost."""
    fidelity = Fidelity(0.0, 0.0, 1.0, None, 4, "y", True, (check("y", "psnr", 9.0, 8.0, 4),))
    outbox.put("a1", codec.dumps(TrialResult(1, "a1", "ok", "0.1", fidelity=fidelity)), None)
    refused: list[Any] = []

    def older(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if "checks" in body["fidelity"]:
            refused.append(body)
            return httpx.Response(422, json={"detail": "unknown key 'checks'"})
        assert codec.from_plain(TrialResult, body).fidelity == replace(fidelity, checks=())
        return httpx.Response(200, json={"accepted": True})

    assert deliver_due(outbox, Net(older).uplink) == 1
    assert outbox.outcome("a1") == "accepted"
    assert len(refused) == 1


def test_a_result_of_another_contract_is_carried_all_the_same(
    controller: Controller, outbox: Outbox, tmp_path: Path
) -> None:
    """Like one that an older agent left in the outbox; only the controller judges its content."""
    path = tmp_path / f"{sha(b'samples')}.zst"
    path.write_bytes(b"samples")
    outbox.put("a1", json.dumps({"of": "yore", "samples": {"sha256": path.stem}}), path)
    controller.status = controller.inline_status = 422
    assert deliver_due(outbox, offered(controller)) == 1
    assert outbox.outcome("a1") == "refused"


@pytest.mark.parametrize(
    ("said", "taken"), [("65536", 65536), ("", 0), ("-1", 0), ("1e9", 0), ("²", 0), ("9" * 30, 0)]
)
def test_what_the_controller_offers(said: str, taken: int) -> None:
    headers = [(INLINE_HEADER.encode(), said.encode())]
    body = plain(HeartbeatAnswer(True, False, 5.0, 20.0))
    net = Net(lambda _: httpx.Response(200, json=body, headers=headers))
    net.uplink.inline_bytes = 1
    net.uplink.heartbeat("d", Heartbeat("0.1"))
    assert net.uplink.inline_bytes == taken


def test_two_results_with_one_blob_are_both_delivered(
    controller: Controller, outbox: Outbox, tmp_path: Path
) -> None:
    """The same thing built twice has one name; the first result takes its file along."""
    path = posted(outbox, tmp_path)
    outbox.put("a2", result_with(path.stem).replace("a1", "a2"), path)
    assert deliver_due(outbox, controller.net.uplink) == 2
    assert {name: r.status for name, r in controller.results.items()} == {"a1": "ok", "a2": "ok"}


def test_what_was_built_and_lost_turns_the_result_into_a_failure(
    controller: Controller, outbox: Outbox, tmp_path: Path
) -> None:
    path = tmp_path / f"{sha(b'built')}.zip"
    built = Built("onnx", "int8", path.stem, 5)
    result = TrialResult(SCHEMA, "a1", "ok", "0.1", built=built)
    outbox.put("a1", codec.dumps(result), path)
    deliver_due(outbox, controller.net.uplink)
    given = controller.results["a1"]
    assert (given.status, given.built) == ("failed", None)
    assert given.failure is not None
    assert (given.failure.stage, given.failure.transient) == ("convert", True)


@pytest.mark.parametrize("content", [b"damaged", None])
def test_lost_samples_turn_the_result_into_a_failure(
    controller: Controller, outbox: Outbox, tmp_path: Path, content: bytes | None
) -> None:
    path = posted(outbox, tmp_path, content or b"")
    if content is None:
        path.unlink()
    deliver_due(outbox, controller.net.uplink)
    result = controller.results["a1"]
    assert (result.status, result.samples) == ("failed", None)
    assert result.failure is not None
    assert result.failure.transient
