"""The controller's ringing: doorbells as ``broker.ring`` sends them, at a tenth of the work.

A whole farm's doorbells go through one process, and Celery and Kombu build each message anew. So
they build one, and what differs is filled in; Redis gets it in one round trip, which bounds the
queue as well. On any other broker it is ``broker.ring`` that rings.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from functools import cache
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis import RedisError

from agent import broker

_QUEUE, _ATTEMPT, _TASK, _TAG = "the-queue", "the-attempt", "the-task", "the-tag"
"""What is filled in where these stand in the template."""


class DoorbellPublisher:
    """Rings doorbells over one application; from any thread. Raises ``BrokerDown``."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._connection: Any = None  # the client's pool lives as long as it
        self._client: Any = None
        self._is_redis = str(app.conf.broker_url).startswith(("redis:", "rediss:", "redis+socket:"))

    def __call__(self, device: str, attempt_id: str) -> None:
        if not self._is_redis:
            broker.ring(self._app, device, attempt_id)
            return
        queue = broker.queue_name(device)
        try:
            with self._redis().pipeline(transaction=False) as pipeline:
                pipeline.lpush(queue, message(queue, attempt_id))
                pipeline.ltrim(queue, 0, broker.LONGEST_QUEUE - 1)
                # that a controller's user of an older ACL file may not trim costs nobody his work
                pushed, _ = pipeline.execute(raise_on_error=False)
            if isinstance(pushed, Exception):
                raise pushed
        except (OperationalError, RedisError, OSError) as error:
            raise broker.BrokerDown(
                f"the broker did not take the doorbell of {device}: {error}"
            ) from error

    def _redis(self) -> Any:
        """Kombu's own client, over its pool of connections: its options hold here, too."""
        with self._lock:
            if self._client is None:
                self._connection = self._app.connection_for_write()
                with self._connection.default_channel.conn_or_acquire() as client:
                    self._client = client
            return self._client


def message(queue: str, attempt_id: str) -> str:
    """A doorbell as it lies in Redis."""
    text, body = _template()
    body = body.replace(_ATTEMPT, _inside_json(attempt_id))
    task = str(uuid.uuid4())
    filled = text.replace(_TASK, task).replace(_TAG, task).replace(_QUEUE, _inside_json(queue))
    return filled % base64.b64encode(body.encode()).decode()


def _inside_json(text: str) -> str:
    return json.dumps(text)[1:-1]


@cache
def _template() -> tuple[str, str]:
    """Envelope, with ``%s`` for the body, and body of a doorbell, as Celery and Kombu make it."""
    app = broker.make_app("memory://", "benchfarm-template")
    with app.connection_for_write() as connection:
        broker.ring(app, _ATTEMPT, _ATTEMPT, task_id=_TASK, connection=connection)
        sent = connection.default_channel._get(broker.queue_name(_ATTEMPT))
    body = base64.b64decode(sent["body"]).decode()
    sent["properties"]["delivery_tag"] = _TAG
    sent["properties"]["delivery_info"]["routing_key"] = _QUEUE
    text = json.dumps({**sent, "body": "\0"}).replace("%", "%%")
    return text.replace(json.dumps("\0")[1:-1], "%s"), body
