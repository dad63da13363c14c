"""The API as its schema says, with right and wrong tokens: no 500, no answer to the wrong role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.api.app import create_app
from support.farms import BROKER_URL, build, spec_text
from support.serving import Served, serving

ROLES = ("wrong", "join", "device", "viewer", "operator", "admin")
EXAMPLES = 6
FEW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A farm that has one of everything."""
    kit = build(tmp_path_factory.mktemp("schema"))
    kit.farm.settings.failures_per_minute = kit.farm.settings.enrolments_per_minute = 1_000_000
    kit.device()
    kit.add_model()
    kit.submit()
    with serving(kit) as running:
        yield running
    kit.farm.database.close()


@pytest.fixture(scope="module")
def schema(served: Served) -> Any:
    app = create_app(served.kit.farm, BROKER_URL)
    return schemathesis.openapi.from_dict(app.openapi())


@pytest.fixture(scope="module")
def tokens(served: Served) -> dict[str, str]:
    found = {role: served.token(role, "board") for role in ("viewer", "operator", "admin", "join")}
    return {**found, "wrong": "w" * 43, "device": served.kit.enrol("other").token}


MAY: dict[str, tuple[str, ...]] = {
    "people": ("viewer", "operator", "admin"),
    "devices": ("device",),
    "blobs": ("viewer", "operator", "admin", "device"),
    "administration": ("admin",),
}


def operations(schema: Any) -> list[Any]:
    return [result.ok() for result in schema.get_all_operations()]


NAMES = st.sampled_from(["board", "dense", "first", "1", "0" * 64, "..", "%2e", "é", "a b"])
"""What exists, what does not, and what was never meant to be a name."""


def _tried(http: httpx.Client, operation: Any, path: str) -> set[int]:
    """The statuses that examples of one operation are answered with."""
    seen: set[int] = set()

    @FEW
    @given(case=operation.as_strategy(), name=NAMES)
    def run(case: Any, name: str) -> None:
        seen.add(_try(http, case, path, name))

    run()
    return seen


def _try(http: httpx.Client, case: Any, path: str, name: str) -> int:
    """Send one case; the status, which no case may make a failure of the farm."""
    for place in case.path_parameters or {}:
        path = path.replace("{" + place + "}", name)
    body = case.body if isinstance(case.body, (dict, list, str, int)) else None
    query = {str(k): str(v) for k, v in (case.query or {}).items()}
    answer = http.request(case.method, path, params=query, json=body)
    where = f"{case.method} {path} {query} {body!r}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500, where
    if answer.status_code >= 400 and case.method != "HEAD":
        assert set(answer.json()) == {"error"}, where
    return answer.status_code


@pytest.mark.parametrize("role", ROLES)
def test_nothing_that_the_schema_allows_breaks_the_api(
    served: Served, schema: Any, tokens: dict[str, str], role: str
) -> None:
    reached = 0
    with served.http(tokens[role]) as http:
        for operation in operations(schema):
            path = operation.path.removeprefix("/api/v1")
            if role == "admin" and operation.method.upper() == "DELETE":
                continue  # it would end the tokens and devices that the others use
            tag = operation.definition.raw["tags"][0]
            statuses = _tried(http, operation, path)
            if path != "/enroll" and role not in MAY[tag]:
                # 404, 405, 422: what is no route or no request at all says nothing of the farm
                assert statuses <= {403, 404, 405, 422}, (role, path, statuses)
                assert 403 in statuses, (role, path, statuses)
            reached += any(status < 300 for status in statuses)
    if role in ("wrong", "join"):
        assert reached == 0
    elif role != "device":  # the schema does not say what devices send: no request gets through
        assert reached >= 5


@FEW
@given(st.text(max_size=400))
def test_any_text_may_be_sent_as_a_spec(served: Served, text: str) -> None:
    with served.http(served.token("viewer")) as http:
        for source in (text, spec_text() + text):
            answer = http.post("/sweeps/plan", json={"text": source})
            assert answer.status_code in (200, 404, 422), answer.text


@FEW
@given(st.binary(max_size=300))
def test_any_bytes_may_be_sent_as_anything(
    served: Served, tokens: dict[str, str], data: bytes
) -> None:
    with served.http(tokens["device"]) as http:
        for method, path in (
            ("POST", "/enroll"),
            ("PUT", "/devices/other/heartbeat"),
            ("PUT", "/devices/other/facts"),
            ("PUT", "/attempts/a1/result"),
            ("PUT", f"/blobs/{'0' * 64}"),
            ("POST", "/sweeps"),
        ):
            answer = http.request(method, path, content=data)
            assert 400 <= answer.status_code < 500, (path, answer.status_code, answer.text)
