"""Results that bring their samples along, over HTTP: taken as an upload and a result are, or
refused with nothing kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.contract import codec
from agent.contract.api_messages import INLINE_HEADER, INLINE_KEY, Heartbeat, with_samples
from agent.contract.trial import TrialResult
from agent.worker.uplink.http_client import Uplink
from agent.worker.uplink.outbox import Outbox
from agent.worker.uplink.result_sender import deliver_due
from orchestrator.api import agent_routes
from orchestrator.api.agent_routes import INLINE_BYTES
from orchestrator.service.sweeps import sweeps
from support.farms import AGENT_VERSION, FarmKit, failed
from support.serving import serving


@dataclass
class Lab:
    """A board with an attempt under way. ``uplink``: its agent's; ``asked`` what it sends."""

    kit: FarmKit
    http: httpx.Client
    uplink: Uplink
    asked: list[tuple[str, str]]
    attempt: str
    url: str
    token: str

    def put(self, body: str | bytes, attempt: str = "") -> httpx.Response:
        return self.http.put(f"/attempts/{attempt or self.attempt}/result", content=body)

    def unchanged(self) -> tuple[object, ...]:
        return self.kit.rows(), self.kit.states(), self.kit.blobs()


@pytest.fixture
def lab(sqlite_farm: FarmKit) -> Iterator[Lab]:
    kit = sqlite_farm
    token = kit.enrol("board").token
    kit.add_model()
    kit.beat(kit.device_id("board"))
    kit.submit(trials=2)
    kit.beat(kit.device_id("board"))
    asked: list[tuple[str, str]] = []
    with (
        serving(kit) as served,
        served.http(token) as http,
        Uplink(served.url, token, transport=noting(asked)) as uplink,
    ):
        yield Lab(kit, http, uplink, asked, kit.last_rung(), served.url, token)


def noting(asked: list[tuple[str, str]]) -> httpx.BaseTransport:
    class Noting(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            asked.append((request.method, request.url.path.split("/")[3]))
            return super().handle_request(request)

    return Noting()


def measured(kit: FarmKit, attempt: str, data: bytes = b"") -> tuple[TrialResult, bytes]:
    """A result, and its samples, which are not with the controller."""
    result = kit.ok(attempt)
    assert result.samples is not None
    content = data or kit.farm.blobs.read(result.samples.sha256)
    kit.farm.blobs.delete([result.samples.sha256])
    named = replace(result.samples, sha256=sha256(content).hexdigest(), size_bytes=len(content))
    return replace(result, samples=named), content


def posted(lab: Lab, folder: Path, result: TrialResult, content: bytes) -> Outbox:
    assert result.samples is not None
    path = folder / f"{result.samples.sha256}.zst"
    path.write_bytes(content)
    outbox = Outbox(folder / "outbox.sqlite")
    outbox.put(lab.attempt, codec.dumps(result), path)
    return outbox


def test_a_trial_is_two_requests(lab: Lab, tmp_path: Path) -> None:
    lab.uplink.start(lab.attempt)
    result, content = measured(lab.kit, lab.attempt)
    outbox = posted(lab, tmp_path, result, content)
    assert deliver_due(outbox, lab.uplink) == 1
    assert lab.asked == [("POST", "attempts"), ("PUT", "attempts")]
    assert outbox.outcome(lab.attempt) == "accepted"
    assert not list(tmp_path.glob("*.zst"))
    kept = lab.kit.attempt(lab.attempt)
    assert kept.accepted
    assert kept.result == codec.to_plain(result)  # the samples themselves are in no row
    assert result.samples is not None
    assert lab.kit.farm.blobs.read(result.samples.sha256) == content


def test_after_a_restart_it_goes_as_the_controller_says_anew(lab: Lab, tmp_path: Path) -> None:
    """What lay in the outbox when the agent died is sent apart, until a heartbeat was answered."""
    lab.uplink.start(lab.attempt)
    first, content = measured(lab.kit, lab.attempt)
    posted(lab, tmp_path, first, content).close()
    with Uplink(lab.url, lab.token) as reborn:
        assert reborn.inline_bytes == 0
        outbox = Outbox(tmp_path / "outbox.sqlite")
        assert deliver_due(outbox, reborn) == 1
    assert outbox.outcome(lab.attempt) == "accepted"
    assert lab.kit.attempt(lab.attempt).accepted


def test_a_heartbeat_offers_it_too(lab: Lab) -> None:
    assert lab.uplink.inline_bytes == 0
    lab.uplink.heartbeat("board", Heartbeat(AGENT_VERSION))
    assert lab.uplink.inline_bytes == INLINE_BYTES


def test_a_controller_that_takes_none_is_sent_none(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller of an earlier release: it does not offer inline samples."""
    monkeypatch.setattr(agent_routes, "INLINE_OFFER", {})
    lab.uplink.start(lab.attempt)
    result, content = measured(lab.kit, lab.attempt)
    assert deliver_due(posted(lab, tmp_path, result, content), lab.uplink) == 1
    assert lab.asked == [("POST", "attempts"), ("PUT", "blobs"), ("PUT", "attempts")]
    assert lab.kit.attempt(lab.attempt).accepted


def test_an_older_controller_beside_the_one_that_offered_it(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses the key that it does not know; nothing is lost by that."""
    lab.uplink.start(lab.attempt)
    monkeypatch.setattr(agent_routes, "take_samples", lambda _data: None)
    result, content = measured(lab.kit, lab.attempt)
    outbox = posted(lab, tmp_path, result, content)
    refused = lab.put(with_samples(codec.dumps(result), content))
    assert refused.status_code == 422
    assert f"unknown key '{INLINE_KEY}'" in refused.text
    assert deliver_due(outbox, lab.uplink) == 1
    assert lab.asked[1:] == [("PUT", "attempts"), ("PUT", "blobs"), ("PUT", "attempts")]
    assert outbox.outcome(lab.attempt) == "accepted"
    assert lab.kit.attempt(lab.attempt).accepted


@pytest.mark.parametrize(("more", "requests"), [(0, 1), (1, 2)])
def test_as_many_bytes_as_were_offered(lab: Lab, tmp_path: Path, more: int, requests: int) -> None:
    lab.uplink.start(lab.attempt)
    result, content = measured(lab.kit, lab.attempt, bytes(INLINE_BYTES + more))
    outbox = posted(lab, tmp_path, result, content)
    del lab.asked[:]
    assert deliver_due(outbox, lab.uplink) == 1
    assert len(lab.asked) == requests
    assert lab.kit.attempt(lab.attempt).accepted
    assert result.samples is not None
    assert lab.kit.farm.blobs.read(result.samples.sha256) == content


def test_samples_that_were_damaged_on_the_board_fail_the_attempt(lab: Lab, tmp_path: Path) -> None:
    lab.uplink.start(lab.attempt)
    result, content = measured(lab.kit, lab.attempt)
    outbox = posted(lab, tmp_path, result, content[:-1] + b"?")
    before = lab.kit.blobs()
    assert deliver_due(outbox, lab.uplink) == 1
    kept = lab.kit.attempt(lab.attempt)
    assert kept.result is not None
    assert kept.result["failure"]["message"].startswith("the raw samples was lost or damaged")
    assert lab.kit.blobs() == before


def test_the_same_again_changes_nothing(lab: Lab) -> None:
    result, content = measured(lab.kit, lab.attempt)
    body = with_samples(codec.dumps(result), content)
    assert lab.put(body).json() == {"accepted": True}
    before = lab.unchanged()
    assert lab.put(body).json() == {"accepted": True}
    assert lab.put(codec.dumps(result)).json() == {"accepted": True}
    assert lab.unchanged() == before


def test_what_came_too_late_is_kept_for_inspection(lab: Lab) -> None:
    """The outcome is the same as with uploaded samples."""
    result, content = measured(lab.kit, lab.attempt)
    sweeps.cancel(lab.kit.farm, "first")
    answer = lab.put(with_samples(codec.dumps(result), content))
    assert answer.status_code == 409
    assert result.samples is not None
    assert lab.kit.attempt(lab.attempt).result == codec.to_plain(result)
    assert lab.kit.farm.blobs.read(result.samples.sha256) == content


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


REFUSED = {
    "another's bytes": (lambda b: encoded(b[:-1] + b"?"), "hashes to"),
    "too few": (lambda b: encoded(b[:-1]), "names samples of"),
    "too many": (lambda b: encoded(b + b"?"), "names samples of"),
    "nothing": (lambda b: "", "names samples of"),
    "no base64": (lambda b: encoded(b)[:-1] + "!", "expected base64"),
    "cut base64": (lambda b: encoded(b)[:-1], "expected base64"),
    "a line's end": (lambda b: encoded(b) + "\n", "expected base64"),
    "no ASCII": (lambda b: "é" + encoded(b), "expected base64"),
    "a number": (lambda b: 1, "expected base64"),
    "a list": (lambda b: [encoded(b)], "expected base64"),
    "null": (lambda b: None, "expected base64"),
    "far too many": (lambda b: encoded(bytes(INLINE_BYTES + 1)), "at most 65536"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_one_clear_refusal_and_nothing_kept(lab: Lab, what: str) -> None:
    make, words = REFUSED[what]
    result, content = measured(lab.kit, lab.attempt)
    before = lab.unchanged()
    body = {**codec.to_plain(result), INLINE_KEY: make(content)}  # type: ignore[no-untyped-call]
    answer = lab.put(json.dumps(body))
    assert answer.status_code == 422
    assert set(answer.json()) == {"error"}
    assert words in answer.json()["error"]["message"]
    assert lab.unchanged() == before
    assert lab.put(with_samples(codec.dumps(result), content)).status_code == 200


def test_samples_without_a_result_that_names_them(lab: Lab) -> None:
    result, content = measured(lab.kit, lab.attempt)
    before = lab.unchanged()
    for given_, words in (
        (failed(lab.attempt), "names none"),
        (replace(result, attempt_id="another"), "names attempt another"),
        (replace(result, schema=99), "schema 99"),
    ):
        answer = lab.put(with_samples(codec.dumps(given_), content))
        assert answer.status_code == 422
        assert words in answer.json()["error"]["message"]
    assert result.samples is not None
    nowhere = replace(result, samples=replace(result.samples, sha256="../../etc/passwd"))
    assert lab.put(with_samples(codec.dumps(nowhere), content)).status_code == 422
    assert lab.unchanged() == before


def test_another_devices_attempt(lab: Lab) -> None:
    """Nothing of a stranger's is stored, whatever he knows, and he is told nothing."""
    result, content = measured(lab.kit, lab.attempt)
    body = with_samples(codec.dumps(result), content)
    other = lab.kit.enrol("other").token
    before = lab.unchanged()
    for attempt in (lab.attempt, "none"):
        answer = lab.http.put(
            f"/attempts/{attempt}/result",
            content=body,
            headers={"Authorization": f"Bearer {other}"},
        )
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == f"this device has no attempt {attempt!r}"
    wrong = lab.http.put(
        f"/attempts/{lab.attempt}/result", content=body, headers={"Authorization": "Bearer x"}
    )
    assert wrong.status_code == 403
    assert lab.unchanged() == before


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.one_of(
        st.binary(max_size=300).map(encoded),
        st.text(max_size=60),
        st.none() | st.integers() | st.lists(st.text(max_size=3), max_size=3),
        st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    )
)
def test_anything_as_samples(lab: Lab, value: object) -> None:
    result, _ = measured(lab.kit, lab.attempt)
    before = lab.unchanged()
    answer = lab.put(json.dumps({**codec.to_plain(result), INLINE_KEY: value}))
    assert (answer.status_code, set(answer.json())) == (422, {"error"})
    assert lab.unchanged() == before


def test_the_offer_is_a_header_that_older_agents_do_not_see(lab: Lab) -> None:
    answer = lab.http.post(f"/attempts/{lab.attempt}/start")
    assert answer.headers[INLINE_HEADER] == str(INLINE_BYTES)
    assert set(answer.json()) == {"lease_s", "request"}
