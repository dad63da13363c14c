"""The agent and its broker: doorbells nobody hears, poison, few rights, a broker that is away."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from agent import broker
from orchestrator.broker.redis_publisher import DoorbellPublisher
from support.need import need
from support.running_agent import DEVICE, LONG, QUICK, Board, end_attempt, joined
from support.servers import free_port, redis_program


def body(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def envelope(
    content: object, headers: object = None, content_type: str = "application/json"
) -> str:
    """A message as kombu frames it, with whatever is wrong inside."""
    return json.dumps(
        {
            "body": content,
            "content-encoding": "utf-8",
            "content-type": content_type,
            "headers": {"task": broker.TASK, "id": "x"} if headers is None else headers,
            "properties": {
                "delivery_tag": "t",
                "delivery_info": {"exchange": "", "routing_key": broker.queue_name(DEVICE)},
                "body_encoding": "base64",
            },
        }
    )


POISON: list[str | bytes] = [
    "1",
    "[]",
    "null",
    "{}",
    '"x"',
    "nonsense",
    b"\xff\xfe",
    json.dumps({"body": body("1")}),
    envelope("!!! not base64"),
    envelope(None),
    envelope(body("1")),
    envelope(body("[]")),
    envelope(body("null")),
    envelope(body("{")),
    envelope(body("[1, 2, 3]")),
    envelope(body("[[], {}, {}]")),
    envelope(body('[["a"], {}, {}]')),
    envelope(body('[[], {"attempt_id": "../../etc"}, {}]')),
    envelope(body('[[], {"attempt_id": 7}, null]')),
    envelope(body("[[], {}, {}]"), headers={}),
    envelope(body("[[], {}, {}]"), headers=[]),
    envelope(body("[[], {}, {}]"), headers={"task": "os.system", "id": "x"}),
    envelope(body("[[], {}, {}]"), headers={"task": None, "id": None}),
    envelope(
        body("[[], {}, {}]"), headers={"task": broker.TASK, "id": {}, "eta": "x", "retries": "z"}
    ),
    envelope(body("x"), content_type="application/x-python-serialize"),
]


def test_a_device_that_hears_nothing_has_few_doorbells_waiting(redis_url: str) -> None:
    app = broker.make_app(redis_url, "test", "")
    ring, queue = DoorbellPublisher(app), broker.queue_name("deaf")
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.delete(queue)
        for number in range(3 * broker.LONGEST_QUEUE):
            ring("deaf", f"a{number}")
        assert client.llen(queue) == broker.LONGEST_QUEUE
        newest = json.loads(client.lindex(queue, 0) or b"{}")
        assert b"a23" in base64.b64decode(newest["body"])
        client.delete(queue)
    app.close()


def test_while_a_trial_runs_the_broker_knows_nothing_of_it(board: Board, redis_url: str) -> None:
    """So no visibility timeout brings it back, however many hours it takes."""
    board.start()
    board.attempt("a1", LONG)
    board.measuring("a1")
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        assert client.keys() == []
    end_attempt(board, "a1")
    assert board.controller.started == ["a1"]


def test_poison_does_not_end_the_agent(board: Board, redis_url: str) -> None:
    board.start()
    client = redis.Redis.from_url(redis_url)
    queue = broker.queue_name(DEVICE)
    for message in POISON:
        client.lpush(queue, message)
    board.attempt("a1")
    assert board.controller.result_of("a1", within_s=180).status == "ok"
    assert board.controller.started == ["a1"]
    assert client.llen(queue) == 0
    assert board.process is not None
    assert board.process.poll() is None
    client.close()


def test_poison_beside_a_measurement_does_not_disturb_its_result(
    board: Board, redis_url: str
) -> None:
    board.start()
    scenario = replace(QUICK, min_duration_s=3.0, max_duration_s=3.0)
    board.attempt("a1", scenario)
    board.measuring("a1")
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        for message in POISON[:4]:
            client.lpush(broker.queue_name(DEVICE), message)
    assert board.controller.result_of("a1").status == "ok"
    board.attempt("a2")
    assert board.controller.result_of("a2").status == "ok"


def test_a_device_needs_its_own_key_and_four_commands(tmp_path: Path, redis_url: str) -> None:
    """What a farm's Redis may hold each device to."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.acl_setuser(
            DEVICE,
            enabled=True,
            passwords=["+secret"],
            keys=[broker.queue_name(DEVICE)],
            commands=["-@all", "+brpop", "+lpush", "+ping", "+hello"],
            reset=True,
        )
        device_url = redis_url.replace("://", f"://{DEVICE}:secret@")
        try:
            with joined(tmp_path, device_url) as board:
                board.start()
                for attempt_id in ("a1", "a2"):
                    board.attempt(attempt_id)
                    assert board.controller.result_of(attempt_id).status == "ok"
                with pytest.raises(broker.BrokerDown, match="no permissions"):
                    broker.ring(broker.make_app(device_url, "test", ""), "other", "a1")
                assert board.stop() == 0
                assert "NOPERM" not in board.log
        finally:
            client.acl_deluser(DEVICE)


def test_a_broker_that_comes_late_or_comes_back(tmp_path: Path) -> None:
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]

    def redis_process() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with contextlib.closing(redis.Redis(port=port)) as client:
            for _ in range(200):
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.05)
        return process

    with joined(tmp_path, f"redis://127.0.0.1:{port}/0") as board:
        board.start()
        board.controller.wait_for(lambda: "broker not reachable" in board.log)
        for attempt_id in ("a1", "a2"):
            server = redis_process()
            try:
                board.attempt(attempt_id)
                assert board.controller.result_of(attempt_id, within_s=120).status == "ok"
            finally:
                server.kill()
                server.wait()
        assert board.stop() == 0
