"""Every route for every role, tokens from their making to their end, and what bounds strangers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from agent.contract import codec
from agent.contract.api_messages import Enrolment
from orchestrator.api.request_limits import HEADERS, MAX_BODY_BYTES, MAX_DEPTH, depth
from orchestrator.client import Client
from orchestrator.domain.errors import NotAllowed, NotFound, UserError
from orchestrator.service.devices import tokens
from orchestrator.service.views import TokenView
from support.farms import AGENT_VERSION, FarmKit, build, device_facts, spec_text
from support.serving import Served, serving

V = frozenset({"viewer", "operator", "admin"})
O = frozenset({"operator", "admin"})  # noqa: E741
A = frozenset({"admin"})
D = frozenset({"device"})
EVERYBODY = frozenset({"nobody"})

ROUTES: dict[str, frozenset[str]] = {
    "POST /enroll": EVERYBODY,
    "PUT /devices/{name}/heartbeat": D,
    "PUT /devices/{name}/facts": D,
    "GET /devices/{name}/token": D,
    "POST /attempts/{attempt_id}/start": D,
    "PUT /attempts/{attempt_id}/result": D,
    "GET /blobs/{sha256}": V | D,
    "HEAD /blobs/{sha256}": V | D,
    "PUT /blobs/{sha256}": O | D,
    "GET /cells/{cell}/samples": V,
    "GET /controller": V,
    "GET /controller/authority": V,
    "GET /devices": V,
    "GET /devices/{name}": V,
    "DELETE /devices/{name}": O,
    "POST /devices/{name}/join-token": O,
    "POST /devices/{name}/rename": O,
    "POST /devices/{name}/rotate": O,
    "POST /devices/{name}/enable": O,
    "POST /devices/{name}/drain": O,
    "POST /devices/{name}/tags": O,
    "POST /devices/{name}/class": O,
    "POST /devices/{name}/maintenance": O,
    "POST /devices/{name}/checks": O,
    "GET /devices/{name}/checks": V,
    "GET /devices/{name}/checks/{number}": V,
    "GET /models": V,
    "POST /models": O,
    "GET /models/{name}": V,
    "GET /models/{name}/network": V,
    "DELETE /models/{name}": O,
    "POST /sweeps/plan": V,
    "POST /sweeps": O,
    "GET /sweeps": V,
    "GET /sweeps/{name}": V,
    "POST /sweeps/{name}/cancel": O,
    "POST /sweeps/{name}/resume": O,
    "DELETE /sweeps/{name}": O,
    "GET /sweeps/{name}/report": V,
    "GET /events": V,
    "GET /tokens": A,
    "POST /tokens": A,
    "DELETE /tokens/{token_id}": A,
    "GET /broker/users": A,
}
"""Who may call what. A route that is missing here fails the test: say who may call it."""

ROLES = (
    "nobody", "malformed", "wrong", "expired", "revoked", "join", "rejoin", "device", "viewer",
    "operator", "admin",
)  # fmt: skip
BODIES: dict[str, object] = {
    "POST /devices/{name}/join-token": {},
    "POST /devices/{name}/tags": {"tags": {}},
    "POST /devices/{name}/class": {"device_class": "arm64-generic"},
    "POST /devices/{name}/maintenance": {"on": False},
    "POST /models": {"name": "m", "file_name": "m.onnx", "sha256": "0" * 64},
    "POST /sweeps/plan": {"text": "x"},
    "POST /sweeps": {"text": "x"},
    "POST /tokens": {"role": "viewer", "name": "somebody"},
}
PLACES = {
    "{name}": "board",
    "{attempt_id}": "a1",
    "{sha256}": "0" * 64,
    "{token_id}": "999",
    "{number}": "1",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    kit = build(tmp_path_factory.mktemp("roles"))
    kit.farm.settings.failures_per_minute = 100_000
    with serving(kit) as running:
        yield running
    kit.farm.database.close()


@pytest.fixture
def served(sqlite_farm: FarmKit) -> Iterator[Served]:
    with serving(sqlite_farm) as running:
        yield running


def header(served: Served, role: str) -> dict[str, str]:
    farm = served.kit.farm
    if role == "nobody":
        return {}
    if role == "malformed":
        return {"Authorization": "Basic Ym9hcmQ6c2VjcmV0"}
    if role == "wrong":
        return {"Authorization": "Bearer " + "x" * 43}
    if role == "device":
        return {"Authorization": f"Bearer {served.kit.enrol('board').token}"}
    with farm.database.transaction() as session:
        if role == "expired":
            secret = tokens.issue(farm, session, "admin", lifetime=timedelta(seconds=-1))
        elif role == "revoked":
            secret = tokens.issue(farm, session, "admin")
        else:
            secret = tokens.issue(farm, session, role, note="board")
    if role == "revoked":
        tokens.revoke(farm, tokens.identify(farm, secret).token_id)
    return {"Authorization": f"Bearer {secret}"}


def routes(served: Served) -> set[str]:
    with served.http() as http:
        schema = http.get("/openapi.json").json()
    return {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in schema["paths"].items()
        for method in methods
    }


def test_every_route_is_in_the_table(shared: Served) -> None:
    assert routes(shared) == set(ROUTES)


@pytest.mark.parametrize("role", ROLES)
def test_every_route_for_every_role(shared: Served, role: str) -> None:
    """Allowed: anything but a refusal. Not allowed: a refusal, and nothing else."""
    headers = header(shared, role)
    with shared.http() as http:
        for route, allowed in ROUTES.items():
            method, path = route.split()
            for place, value in PLACES.items():
                path = path.replace(place, value)
            body = BODIES.get(route)
            if role in ("operator", "admin") and path.startswith("/devices/board"):
                path = path.replace("board", "no-such-board")
            answer = http.request(method, path, headers=headers, json=body)
            where = f"{role}: {route} gave {answer.status_code} {answer.text[:200]}"
            assert answer.status_code < 500, where
            if role in allowed or allowed == EVERYBODY:
                assert answer.status_code != 403 or path == "/enroll", where
            else:
                assert answer.status_code == 403, where
                if method != "HEAD":
                    assert answer.json()["error"]["kind"] == "not_allowed", where
            assert _has_headers(answer), where


def _has_headers(answer: httpx.Response) -> bool:
    return all(answer.headers.get(name) == value for name, value in HEADERS.items())


def test_a_token_from_its_making_to_its_end(served: Served) -> None:
    kit = served.kit
    with Client(served.url, served.token("admin", "root")) as admin:
        made = admin.create_token("operator", "alice", 86_400)
        assert (made.token.role, made.token.state, made.token.last_used_at) == (
            "operator", "valid", None,
        )  # fmt: skip
        assert made.secret not in json.dumps([t.model_dump(mode="json") for t in admin.tokens()])
        with Client(served.url, made.secret) as alice:
            alice.devices()
            with pytest.raises(NotAllowed, match="needs the role admin; the token has operator"):
                alice.tokens()
            first = _find(admin, made.token.id).last_used_at
            assert first == kit.clock.at
            kit.clock.advance(30)
            alice.devices()
            assert _find(admin, made.token.id).last_used_at == first, "once a minute is enough"
            kit.clock.advance(60)
            alice.devices()
            assert _find(admin, made.token.id).last_used_at == kit.clock.at
            kit.clock.advance(86_400)
            with pytest.raises(NotAllowed, match="expired"):
                alice.devices()
            assert _find(admin, made.token.id).state == "expired"
        forever = admin.create_token("viewer", "wall", None)
        assert forever.token.expires_at is None
        with Client(served.url, forever.secret) as wall:
            wall.devices()
            assert admin.revoke_token(forever.token.id).state == "revoked"
            with pytest.raises(NotAllowed, match="revoked"):
                wall.devices()
        assert admin.revoke_token(forever.token.id).state == "revoked"
        with pytest.raises(UserError, match="there is no token '999'"):
            admin.revoke_token(999)


def _find(admin: Client, number: int) -> TokenView:
    return next(t for t in admin.tokens() if t.id == number)


def test_a_devices_token_is_no_persons_to_revoke(served: Served) -> None:
    device = tokens.identify(served.kit.farm, served.kit.enrol("board").token)
    with pytest.raises(NotFound):
        tokens.revoke(served.kit.farm, device.token_id)


@pytest.mark.parametrize(
    ("role", "name", "lifetime"),
    [
        ("root", "alice", None),
        ("device", "alice", None),
        ("viewer", " ", None),
        ("viewer", "a\nb", None),
        ("viewer", "x" * 101, None),
        ("viewer", "alice", timedelta(0)),
        ("viewer", "alice", timedelta(days=10_000)),
    ],
)
def test_a_token_that_is_none_is_refused(
    sqlite_farm: FarmKit, role: str, name: str, lifetime: timedelta | None
) -> None:
    before = sqlite_farm.rows()
    with pytest.raises(UserError):
        tokens.create(sqlite_farm.farm, role, name, lifetime)
    assert sqlite_farm.rows() == before


def test_wrong_tokens_are_throttled_and_right_ones_beside_them_are_not(served: Served) -> None:
    limit = served.kit.farm.settings.failures_per_minute
    right = served.token("viewer")
    with served.http(right) as known, served.http("wrong" * 9) as guesser:
        assert known.get("/devices").status_code == 200
        answers = [guesser.get("/devices") for _ in range(limit + 3)]
        assert [a.status_code for a in answers] == [403] * limit + [429] * 3
        assert answers[-1].headers["retry-after"] == "60"
        assert answers[-1].json()["error"]["kind"] == "too_often"
        assert known.get("/devices").status_code == 200, "boards behind one router share it"


def test_enrolments_are_throttled(served: Served) -> None:
    limit = served.kit.farm.settings.enrolments_per_minute
    guess = codec.dumps(Enrolment("guess", "board", AGENT_VERSION, device_facts()))
    with served.http() as http:
        answers = [http.post("/enroll", content=guess).status_code for _ in range(limit + 2)]
    assert answers == [403] * limit + [429] * 2


def test_bodies_are_bounded_in_size_and_depth(served: Served) -> None:
    with served.http(served.token("operator")) as http:
        large = http.post("/sweeps", content=b"x" * (MAX_BODY_BYTES + 1))
        assert (large.status_code, large.json()["error"]["kind"]) == (413, "bad_input")

        def chunks() -> Iterator[bytes]:
            for _ in range(9):
                yield b"x" * (1 << 20)

        assert http.post("/sweeps", content=chunks()).status_code == 413
        for deep in ("[" * 100_000, '{"a":' * 2000, "[" * 65 + "]" * 65):
            for path in ("/sweeps", "/enroll", "/models", "/devices/blobs/tags"):
                answer = http.post(path, content=deep)
                assert answer.status_code == 422, answer.text
                assert f"nested deeper than {MAX_DEPTH} levels" in answer.text
        quoted = http.post("/sweeps/plan", json={"text": "[" * 5000})
        assert (quoted.status_code, "deeper" in quoted.text) == (422, False)


def test_depth_counts_brackets_outside_of_strings() -> None:
    for text in ("", "1", "[]", '{"a": [1, {"b": []}]}', '"[[["', r'["\"[[", "\\", [2]]'):
        assert depth(text.encode()) == _depth(json.loads(text)) if text else depth(b"") == 0


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def test_no_page_of_another_site_can_act_for_anybody(served: Served) -> None:
    """No cookie is set or read, and no other origin is allowed anything."""
    token = served.token("operator")
    with served.http() as http:
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        answers = [
            http.options("/sweeps", headers=asked),
            http.get("/devices", headers={**asked, "Authorization": f"Bearer {token}"}),
            http.post("/sweeps", headers=asked, json={"text": spec_text()}),
            http.get(
                "/devices", headers={"Cookie": f"token={token}; Authorization=Bearer {token}"}
            ),
            http.get(f"/devices?token={token}&access_token={token}"),
        ]
        assert [a.status_code for a in answers] == [405, 200, 403, 403, 403]
        for answer in answers:
            assert not any(name.startswith("access-control") for name in answer.headers)
            assert "set-cookie" not in answer.headers
            assert _has_headers(answer)
            assert token not in answer.text


def test_many_cells_want_a_yes(served: Served) -> None:
    kit = served.kit
    kit.device()
    kit.add_model()
    kit.farm.settings.confirm_cells = 2
    text = spec_text(
        more="batch_size: [1]\n", runtimes="[{backend: onnxruntime, threads: [1, 2, 3]}]"
    )
    with Client(served.url, served.token("operator")) as operator:
        before = kit.rows()
        with pytest.raises(UserError, match=r"3 cells to run, more than 2: .*--yes-really"):
            operator.submit(text, "mine.yaml")
        assert kit.rows() == {**before, "tokens": kit.rows()["tokens"]}
        assert operator.submit(text, "mine.yaml", yes_really=True).cells == 3
