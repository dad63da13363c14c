"""The routes that are called past the framework answer as it would, to the byte."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from agent.contract import codec
from agent.contract.api_messages import Heartbeat
from orchestrator.api import app, hot_path
from orchestrator.service.devices import tokens as access
from orchestrator.service.devices.tokens import Identity
from orchestrator.service.scheduling import ingest
from support.farms import AGENT_VERSION, FarmKit, build, failed
from support.serving import Served, serving

BEAT = codec.dumps(Heartbeat(AGENT_VERSION)).encode()
RESULT = codec.dumps(failed("a1")).encode()
NONE = "0" * 64
ASKED: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
    "beat": ("PUT", "/devices/board/heartbeat", BEAT, {}),
    "another's beat": ("PUT", "/devices/other/heartbeat", BEAT, {}),
    "an empty beat": ("PUT", "/devices/board/heartbeat", b"", {}),
    "a beat of NaN": ("PUT", "/devices/board/heartbeat", BEAT.replace(b"null", b"NaN"), {}),
    "half a character": ("PUT", "/devices/board/heartbeat", b'{"\\ud800": 1}', {}),
    "start": ("POST", "/attempts/a1/start", b"", {}),
    "start what needs quoting": ("POST", "/attempts/%C3%A9%20%2e/start", b"", {}),
    "start with a line's end": ("POST", "/attempts/a1%0A/start", b"", {}),
    "start nothing": ("POST", "/attempts//start", b"", {}),
    "start with a slash": ("POST", "/attempts/a1/start/", b"", {}),
    "start with a query": ("POST", "/attempts/a1/start?x=1", b"", {}),
    "get start": ("GET", "/attempts/a1/start", b"", {}),
    "a stranger's result": ("PUT", "/attempts/a1/result", RESULT, {}),
    "no result": ("PUT", "/attempts/a1/result", b"[1]", {}),
    "a deep result": ("PUT", "/attempts/a1/result", b"[" * 1000, {}),
    "a long result": ("PUT", "/attempts/a1/result", b" " * (5 << 20), {}),
    "too long": ("PUT", "/attempts/a1/result", b" " * (9 << 20), {}),
    "a wrong blob": ("PUT", f"/blobs/{NONE}", b"x", {}),
    "a blob without a name": ("PUT", "/blobs/x", b"x", {}),
    "part of a blob": ("PUT", f"/blobs/{NONE}", b"x", {"Content-Range": "bytes 5-5/9"}),
    "no part of a blob": ("PUT", f"/blobs/{NONE}", b"x", {"Content-Range": "bytes"}),
}
TOKENS = ("device", "viewer", "operator", "wrong", "none", "malformed")


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, Served]]:
    """A farm with its shortcut, and one just like it without; their tokens are the same."""
    with contextlib.ExitStack() as stack:
        found = []
        for name, hot in (("with", app.HOT_ENDPOINTS), ("without", ())):
            monkeypatch.setattr(app, "HOT_ENDPOINTS", hot)
            (tmp_path / name).mkdir()
            kit = build(tmp_path / name)
            kit.farm.settings.failures_per_minute = 100_000
            stack.callback(kit.farm.database.close)
            found.append(stack.enter_context(serving(kit)))
        yield found[0], found[1]


def headers(served: Served, tokens: dict[str, str]) -> dict[str, dict[str, str]]:
    bearers = {role: {"Authorization": f"Bearer {secret}"} for role, secret in tokens.items()}
    return {**bearers, "none": {}, "malformed": {"Authorization": "Basic eDp5"}}


def tokens_of(served: Served) -> dict[str, str]:
    people = {role: served.token(role) for role in ("viewer", "operator")}
    return {**people, "wrong": "x" * 43, "device": served.kit.enrol("board").token}


def asked(http: httpx.Client, who: dict[str, str], what: str) -> tuple[int, object, str]:
    method, path, body, more = ASKED[what]
    url = httpx.URL(f"{http.base_url}".rstrip("/") + path)
    answer = http.request(method, url, content=body, headers={**who, **more})
    base = f"{http.base_url}"
    seen = [(k, v.replace(base, "")) for k, v in answer.headers.items() if k != "date"]
    return answer.status_code, seen, answer.text


def test_the_answers_are_the_same(both: tuple[Served, Served]) -> None:
    one, other = (headers(served, tokens_of(served)) for served in both)
    statuses = set()
    with both[0].http() as shortcut, both[1].http() as framework:
        for what in ASKED:
            for role in TOKENS:
                answer = asked(shortcut, one[role], what)
                assert answer == asked(framework, other[role], what), (what, role)
                statuses.add(answer[0])
    assert statuses >= {200, 403, 404, 405, 413, 416, 422}


@pytest.mark.parametrize(
    ("error", "status"),
    [(OperationalError("x", {}, Exception("gone")), 503), (RuntimeError("?"), 500)],
)
def test_troubles_are_answered_the_same(
    both: tuple[Served, Served], monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    secrets = [tokens_of(served)["device"] for served in both]

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(ingest, "start_attempt", fail)
    answers = []
    for served, secret in zip(both, secrets, strict=True):
        with served.http(secret) as http:
            answers.append(asked(http, {}, "start"))
    assert answers[0] == answers[1]
    assert answers[0][0] == status


def test_the_shortcut_is_taken(sqlite_farm: FarmKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the comparison above would prove nothing."""
    past: list[str] = []
    answered = hot_path.HotPath._call

    async def noted(self: hot_path.HotPath, request, endpoint, given):  # type: ignore[no-untyped-def]
        past.append(endpoint.__name__)
        return await answered(self, request, endpoint, given)

    monkeypatch.setattr(hot_path.HotPath, "_call", noted)
    token = sqlite_farm.enrol("board").token
    with serving(sqlite_farm) as served, served.http(token) as http:
        for what in ("beat", "start", "a stranger's result", "a wrong blob", "get start"):
            asked(http, {}, what)
    assert past == ["heartbeat", "start", "result", "put_blob"]


def test_the_shortcut_authenticates(sqlite_farm: FarmKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time anew, by what its own request brings."""
    seen: list[str] = []
    identify = access.identify

    def noted(farm: object, secret: str) -> Identity:
        seen.append(secret)
        return identify(farm, secret)  # type: ignore[arg-type]

    monkeypatch.setattr(access, "identify", noted)
    token = sqlite_farm.enrol("board").token
    with serving(sqlite_farm) as served, served.http() as http:
        for secret in (token, "wrong", token):
            asked(http, {"Authorization": f"Bearer {secret}"}, "beat")
    assert seen == [token, "wrong", token]
