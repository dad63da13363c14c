"""Celery's settings, and what counts as a doorbell."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import broker
from agent.worker.broker import tasks
from agent.worker.broker.tasks import parse_doorbell
from orchestrator.broker import redis_publisher

URLS = [
    "redis://farm:6379/0",
    "rediss://user:secret@farm:6380/1",
    "redis+socket:///run/redis.sock?virtual_host=0",
]


@pytest.mark.parametrize("url", [*URLS, "memory://"])
def test_json_only_no_results_one_at_a_time(url: str) -> None:
    conf = broker.make_app(url, "test", "").conf
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"
    assert conf.result_backend is None
    assert conf.task_ignore_result is True
    assert conf.worker_pool == "threads"
    assert conf.worker_concurrency == 1
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_acks_late is False
    assert conf.worker_enable_remote_control is False
    assert conf.broker_connection_max_retries is None
    assert conf.broker_connection_retry_on_startup is True
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False


@pytest.mark.parametrize("url", URLS)
def test_a_redis_that_vanishes_is_noticed(url: str) -> None:
    options = broker.make_app(url, "test", "").conf.broker_transport_options
    assert options["priority_steps"] == [0]
    assert options["ack_emulation"] is False
    assert (options["socket_timeout"], options["health_check_interval"]) == (10, 5)
    assert options["retry_on_timeout"] is True
    assert options["socket_keepalive"] is True


def test_an_app_is_not_the_processs_own() -> None:
    from celery import current_app

    app = broker.make_app("memory://", "test-not-current", "")
    assert current_app._get_current_object() is not app


def received(url: str, device: str) -> list[dict[str, Any]]:
    with broker.make_app(url, "reader", "").connection_for_read() as connection:
        queue = broker.queue(device)(connection.default_channel)
        messages = []
        while (message := queue.get(no_ack=True)) is not None:
            messages.append({"headers": message.headers, "body": message.payload})
        return messages


def test_a_doorbell_carries_the_id_and_nothing_else() -> None:
    app = broker.make_app("memory://", "ringer", "")
    broker.ring(app, "board", "a1")
    [message] = received("memory://", "board")
    args, kwargs, embedded = message["body"]
    assert (args, kwargs) == ([], {"attempt_id": "a1"})
    assert not any(embedded.values())
    assert message["headers"]["task"] == broker.TASK
    assert message["headers"]["argsrepr"] == message["headers"]["kwargsrepr"] == ""
    assert received("memory://", "other") == []


def sent_by_celery(device: str, attempt_id: str) -> dict[str, Any]:
    app = broker.make_app("memory://", "ringer", "")
    with app.connection_for_write() as connection:
        broker.ring(app, device, attempt_id, connection=connection)
        found: dict[str, Any] = connection.default_channel._get(broker.queue_name(device))
    return found


@pytest.mark.parametrize("attempt_id", ["a1", "0" * 32, 'wei"rd%s\u00e4'])
def test_the_bells_message_is_celerys_own(attempt_id: str) -> None:
    """Field by field, but for the numbers that no two messages share."""
    wanted = sent_by_celery("board", attempt_id)
    found = json.loads(redis_publisher.message(broker.queue_name("board"), attempt_id))
    assert base64.b64decode(found.pop("body")) == base64.b64decode(wanted.pop("body"))
    ids = set()
    for message in (wanted, found):
        headers, properties = message["headers"], message["properties"]
        task = headers.pop("id")
        assert headers.pop("root_id") == properties.pop("correlation_id") == task
        ids |= {task, properties.pop("delivery_tag")}
        for changing in ("reply_to", "origin"):
            assert (headers if changing == "origin" else properties).pop(changing)
    assert found == wanted
    again = json.loads(redis_publisher.message("device.board", attempt_id))["headers"]["id"]
    assert again not in ids


def test_on_another_broker_the_bell_is_celerys() -> None:
    redis_publisher.DoorbellPublisher(broker.make_app("memory://", "ringer", ""))("another", "a1")
    [message] = received("memory://", "another")
    assert message["body"][1] == {"attempt_id": "a1"}


def test_a_broker_that_is_away_is_a_named_error() -> None:
    app = broker.make_app("redis+socket:///nowhere.sock?virtual_host=0", "ringer", "")
    with pytest.raises(broker.BrokerDown, match="board"):
        broker.ring(app, "board", "a1")
    with pytest.raises(broker.BrokerDown, match="board"):
        redis_publisher.DoorbellPublisher(app)("board", "a1")


@pytest.mark.parametrize("attempt_id", ["a1", "0", "t-12.3_x:4", "A" * 120])
def test_ids(attempt_id: str) -> None:
    assert parse_doorbell((), {"attempt_id": attempt_id}) == attempt_id


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        (("a1",), {}),
        ((), {"attempt_id": "a1", "more": 1}),
        ((), {"attempt_id": None}),
        ((), {"attempt_id": 1}),
        ((), {"attempt_id": ["a1"]}),
        ((), {"attempt_id": ""}),
        ((), {"attempt_id": "../a1"}),
        ((), {"attempt_id": "a/1"}),
        ((), {"attempt_id": "a1\n"}),
        ((), {"attempt_id": "A" * 121}),
    ],
)
def test_no_ids(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert parse_doorbell(args, kwargs) is None


@given(st.text(max_size=130))
def test_an_id_is_safe_in_an_address_and_a_path(text: str) -> None:
    if parse_doorbell((), {"attempt_id": text}) is not None:
        assert text.isascii()
        assert not set(text) & set("/\\?#% \n\0")
        assert text not in (".", "..")


def test_the_task_hands_over_good_ids_only() -> None:
    app = broker.make_app("memory://", "tasks", "")
    handed: list[str] = []
    tasks.register(app, handed.append)
    task = app.tasks[broker.TASK]
    task(attempt_id="a1")
    task("a1")
    task()
    assert handed == ["a1"]
