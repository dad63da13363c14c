"""A board is stolen: with its token and its Redis password, what is there of anybody else's?

Real API, real Redis, the controller's own way of ringing.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import redis

from agent import broker
from agent.broker import TASK, queue_name
from agent.contract import codec
from agent.contract.api_messages import Enrolment, Started, with_samples
from orchestrator.broker.redis_acl import CONTROLLER, CONTROLLER_RULES, RedisAcl, with_credentials
from orchestrator.service.devices import broker_users, devices, registration, retirement
from support import onnx_files
from support.farms import AGENT_VERSION, BROKER_URL, FarmKit, build, device_facts, failed
from support.need import need
from support.servers import redis_program, redis_server
from support.serving import Served, serving

A, B = "board-a", "board-b"


@dataclass
class Theft:
    """``a``: HTTP with the stolen token; ``thief``: Redis with the stolen password. ``admin`` sees
    all of Redis; ``mine``, ``other``: attempts of A and of B."""

    served: Served
    a: httpx.Client
    b: httpx.Client
    thief: Any
    admin: Any
    mine: str
    other: str

    @property
    def kit(self) -> FarmKit:
        return self.served.kit

    def state(self) -> object:
        """Everything of the farm that a thief could have changed."""
        attempts = [
            (a.id, a.number, a.started_at, a.ended_at, a.accepted, a.result, a.note)
            for a in self.kit.attempts()
            if a.device_id != self.kit.device_id(A)
        ]
        return self.kit.rows(), attempts, self.kit.states(), devices.device(self.kit.farm, B)


@pytest.fixture
def theft(sqlite_farm: FarmKit) -> Iterator[Theft]:
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    kit = sqlite_farm
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(redis_server(program))
        admin = stack.enter_context(contextlib.closing(redis.Redis.from_url(root)))
        url = _closed(admin, root)
        users = stack.enter_context(contextlib.closing(RedisAcl(url, "")))
        assert users.warning() == ""
        app = broker.make_app(url, "controller", "")
        kit.farm = replace(
            kit.farm, broker_access=users, publish_doorbell=lambda d, a: broker.ring(app, d, a)
        )
        a, b = kit.enrol(A), kit.enrol(B)
        kit.add_model("of-a", onnx_files.dense_bytes())
        kit.add_model("of-b", onnx_files.dense_bytes(6))
        for name, sweep in (("of-a", A), ("of-b", B)):
            kit.beat(kit.device_id(sweep))
            kit.submit(f"sweep-{sweep}", model=name, devices=f"{{names: [{sweep}]}}", trials=2)
            kit.beat(kit.device_id(sweep))
        by_device = {x.device_id: x.id for x in kit.attempts()}
        served = stack.enter_context(serving(kit))
        yield Theft(
            served,
            stack.enter_context(served.http(a.token)),
            stack.enter_context(served.http(b.token)),
            stack.enter_context(contextlib.closing(redis.Redis.from_url(a.broker_url))),
            stack.enter_context(contextlib.closing(redis.Redis.from_url(_root(root)))),
            by_device[kit.device_id(A)],
            by_device[kit.device_id(B)],
        )


def _closed(admin: Any, root: str) -> str:
    """Redis as `benchfarm broker acl` closes it; the controller's address."""
    admin.execute_command("ACL SETUSER", "root", "on", ">root", "~*", "&*", "+@all")
    admin.execute_command("ACL SETUSER", CONTROLLER, "on", ">its-own", *CONTROLLER_RULES)
    admin.execute_command("ACL SETUSER", "default", "off")
    return with_credentials(root, CONTROLLER, "its-own")


def _root(root: str) -> str:
    return with_credentials(root, "root", "root")


OTHERS = queue_name(B)
REDIS: list[tuple[str | int, ...]] = [
    # the other's queue
    ("LPUSH", OTHERS, "x"), ("RPUSH", OTHERS, "x"), ("BRPOP", OTHERS, 1), ("RPOP", OTHERS),
    ("LRANGE", OTHERS, 0, -1), ("LLEN", OTHERS), ("DEL", OTHERS), ("TYPE", OTHERS),
    ("BRPOP", queue_name(A), OTHERS, 1), ("RENAME", OTHERS, queue_name(A)),
    ("LMOVE", OTHERS, queue_name(A), "LEFT", "LEFT"), ("COPY", OTHERS, queue_name(A)),
    ("DUMP", OTHERS), ("EXISTS", OTHERS), ("OBJECT", "ENCODING", OTHERS), ("EXPIRE", OTHERS, 1),
    # its own, by what no agent needs
    ("DEL", queue_name(A)), ("LRANGE", queue_name(A), 0, -1),
    # everything else
    ("KEYS", "*"), ("SCAN", 0), ("RANDOMKEY",), ("DBSIZE",), ("GET", "x"), ("SET", "x", "y"),
    ("FLUSHALL",), ("FLUSHDB",), ("SWAPDB", 0, 1), ("SELECT", 1), ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"), ("SAVE",), ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", 1), ("MODULE", "LIST"), ("EVAL", "return 1", 0),
    ("FUNCTION", "LIST"), ("SCRIPT", "FLUSH"), ("MONITOR",), ("SUBSCRIBE", "x"),
    ("PUBLISH", "x", "y"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "TYPE", "normal"), ("INFO",),
    ("ACL", "LIST"), ("ACL", "SETUSER", "device-board-a", "+@all"), ("ACL", "WHOAMI"),
    ("SMEMBERS", "_kombu.binding.celery"), ("SADD", "_kombu.binding.celery", "x"),
    ("HGETALL", "unacked"), ("ZRANGE", "unacked_index", 0, -1), ("GET", "unacked_mutex"),
    ("MULTI",), ("WATCH", OTHERS), ("SORT", queue_name(A), "BY", OTHERS), ("SLOWLOG", "GET"),
]  # fmt: skip


@pytest.mark.parametrize("command", REDIS, ids=lambda c: " ".join(map(str, c[:3])))
def test_redis_refuses_the_thief(theft_once: Theft, command: tuple[str | int, ...]) -> None:
    before = theft_once.admin.lrange(OTHERS, 0, -1)
    assert len(before) == 1, "the controller rang B once"
    with pytest.raises(redis.exceptions.NoPermissionError):
        theft_once.thief.execute_command(*command)
    assert theft_once.admin.lrange(OTHERS, 0, -1) == before


@pytest.fixture(scope="module")
def theft_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Theft]:
    """One theft for all that changes nothing."""
    kit = build(tmp_path_factory.mktemp("stolen"))
    try:
        yield from theft.__wrapped__(kit)  # type: ignore[attr-defined]
    finally:
        kit.farm.database.close()


def test_the_stolen_password_still_opens_its_own_queue(theft: Theft) -> None:
    """Without this the refusals above would prove nothing."""
    assert theft.thief.ping()
    found = theft.thief.brpop([queue_name(A)], timeout=1)
    assert found is not None
    assert theft.mine.encode() in base64.b64decode(json.loads(found[1])["body"])


def test_other_passwords_and_users_are_refused(theft: Theft) -> None:
    url = theft.thief.connection_pool.connection_kwargs
    where = f"redis://{url['host']}:{url['port']}/0"
    stolen = str(url["password"])
    for user, password in (("device-board-b", stolen), (CONTROLLER, stolen), ("default", "")):
        url_of = with_credentials(where, user, password)
        with (
            contextlib.closing(redis.Redis.from_url(url_of)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()


def heartbeat() -> dict[str, str]:
    return {"agent_version": AGENT_VERSION, "attempt_id": ""}


def test_the_api_refuses_the_thief(theft: Theft) -> None:
    kit, a, other = theft.kit, theft.a, theft.other
    before = theft.state()
    facts = codec.dumps(device_facts("board-b"))
    result = codec.dumps(failed(other))
    stolen = kit.ok(other, [5, 6, 7])
    assert stolen.samples is not None
    content = kit.farm.blobs.read(stolen.samples.sha256)
    kit.farm.blobs.delete([stolen.samples.sha256])
    brought = with_samples(codec.dumps(stolen), content)
    for answer, status in (
        (a.put(f"/devices/{B}/heartbeat", json=heartbeat()), 403),
        (a.put(f"/devices/{B}/facts", content=facts), 403),
        (a.post(f"/attempts/{other}/start"), 404),
        (a.put(f"/attempts/{other}/result", content=result), 404),
        (a.put(f"/attempts/{other}/result", content=codec.dumps(kit.ok(other))), 404),
        (a.put(f"/attempts/{theft.mine}/result", content=result), 422),
        # with samples that are nowhere yet
        (a.put(f"/attempts/{other}/result", content=brought), 404),
        (a.put(f"/attempts/{theft.mine}/result", content=brought), 422),
    ):
        assert answer.status_code == status, (answer.request.url, answer.text)
        assert set(answer.json()) == {"error"}
    # a heartbeat of its own that names the other's attempt renews nothing
    beat = a.put(f"/devices/{A}/heartbeat", json={**heartbeat(), "attempt_id": other})
    assert beat.json()["renewed"] is False
    assert theft.state() == before
    assert not kit.farm.blobs.has(stolen.samples.sha256)


def test_the_blobs_of_others_are_not_there_for_the_thief(theft: Theft) -> None:
    kit, a, b = theft.kit, theft.a, theft.b
    request = codec.loads(Started, b.post(f"/attempts/{theft.other}/start").content).request
    mine = codec.loads(Started, a.post(f"/attempts/{theft.mine}/start").content).request
    assert mine.reference is not None
    assert request.reference is not None
    for sha256 in (mine.model.sha256, mine.reference.sha256):
        assert a.get(f"/blobs/{sha256}").status_code == 200
        assert b.get(f"/blobs/{sha256}").status_code == 404
    samples = kit.ok(theft.other)
    assert samples.samples is not None
    handed = b.put(f"/attempts/{theft.other}/result", content=codec.dumps(samples))
    assert handed.status_code == 200
    nobody = kit.farm.blobs.put(b"of no attempt at all")
    for sha256 in (
        request.model.sha256,
        request.reference.sha256,
        samples.samples.sha256,
        nobody,
        "0" * 64,
    ):
        answers = [a.get(f"/blobs/{sha256}"), a.head(f"/blobs/{sha256}")]
        answers.append(a.get(f"/blobs/{sha256}", headers={"Range": "bytes=1-"}))
        assert {x.status_code for x in answers} == {404}
        # nor does an upload tell whether it is there: the bytes are wanted all the same
        assert a.put(f"/blobs/{sha256}", content=b"guess").status_code == 422
    # naming it in a result of one's own opens nothing
    assert samples.samples.sha256 != nobody
    claimed = replace(
        samples,
        attempt_id=theft.mine,
        samples=replace(samples.samples, sha256=request.model.sha256),
    )
    a.put(f"/attempts/{theft.mine}/result", content=codec.dumps(claimed))
    assert a.get(f"/blobs/{request.model.sha256}").status_code == 404
    # a result for another's attempt does not tell which blobs are here
    for sha256 in (nobody, "0" * 64):
        guess = replace(samples, samples=replace(samples.samples, sha256=sha256))
        answer = a.put(f"/attempts/{theft.other}/result", content=codec.dumps(guess))
        assert answer.status_code == 404


def test_the_peoples_side_is_closed_to_the_thief(theft: Theft) -> None:
    before = theft.state()
    with theft.served.http() as nobody:
        paths = nobody.get("/openapi.json").json()["paths"]
    tried = 0
    for path, methods in paths.items():
        if path.endswith(
            ("/heartbeat", "/facts", "/start", "/result", "/enroll", "/blobs/{sha256}")
        ):
            continue
        for method in methods:
            filled = path.removeprefix("/api/v1")
            for name, value in (("{name}", B), ("{token_id}", "1")):
                filled = filled.replace(name, value)
            answer = theft.a.request(method, filled, json={} if method != "get" else None)
            assert answer.status_code == 403, (method, path, answer.status_code)
            tried += 1
    assert tried >= 20
    assert theft.state() == before


def test_forged_doorbells_change_nothing(theft: Theft) -> None:
    """Into its own queue the thief may put what he likes: it makes only his own device ask."""
    before = theft.state()
    forged = broker.make_app("memory://", "forger", "")
    assert forged.conf.accept_content == ["json"]
    for body in (b"[]", b"null", TASK.encode(), theft.other.encode()):
        theft.thief.lpush(queue_name(A), body)
    assert theft.a.post(f"/attempts/{theft.other}/start").status_code == 404
    assert theft.state() == before
    assert len(theft.admin.lrange(OTHERS, 0, -1)) == 1


def test_revoking_ends_what_the_thief_holds(theft: Theft) -> None:
    kit = theft.kit
    held = theft.thief.connection_pool.get_connection()
    joined = registration.rotate(kit.farm, A)
    assert theft.a.put(f"/devices/{A}/heartbeat", json=heartbeat()).status_code == 403
    with pytest.raises(redis.ConnectionError):
        held.read_response()
    with pytest.raises(redis.AuthenticationError):
        theft.thief.ping()
    enrolment = Enrolment(joined.join_token, A, AGENT_VERSION, device_facts(A))
    renewed = registration.enrol(kit.farm, enrolment, BROKER_URL)
    with contextlib.closing(redis.Redis.from_url(renewed.broker_url)) as found:
        assert found.ping()
    with theft.served.http(renewed.token) as again:
        assert again.put(f"/devices/{A}/heartbeat", json=heartbeat()).status_code == 200
    assert set(broker_users.broker_digests(kit.farm)) == {A, B}
    retirement.retire(kit.farm, A)
    assert set(broker_users.broker_digests(kit.farm)) == {B}
    with (
        contextlib.closing(redis.Redis.from_url(renewed.broker_url)) as gone,
        pytest.raises(redis.AuthenticationError),
    ):
        gone.ping()


def test_no_secret_is_kept_in_the_clear(theft: Theft) -> None:
    """The database and its backups give nobody in."""
    secret = str(theft.thief.connection_pool.connection_kwargs["password"])
    token = theft.a.headers["Authorization"].removeprefix("Bearer ")
    home = theft.kit.farm.settings.home
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name.startswith("benchfarm.sqlite3") for path in files)
    for path in files:
        content = path.read_bytes()
        assert secret.encode() not in content, path
        assert token.encode() not in content, path
