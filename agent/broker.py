"""The doorbell, and Celery's settings for the controller that sends it and the agent.

A doorbell is a message that holds an attempt's id and nothing else. It may be lost, late or
doubled; the controller's database is the truth. Every setting that is not Celery's default is here,
with its reason.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from agent import broker_faults, tls

TASK = "benchfarm.run_attempt"

CONNECT_TIMEOUT_S = 5.0
LONGEST_QUEUE = 8
"""How many doorbells the controller leaves in one device's queue, the newest ones. A device has one
attempt at most, but while it is away the controller rings again and again."""
SOCKET_TIMEOUT_S = 10.0
HEALTH_CHECK_S = 5

_SETTINGS: dict[str, Any] = {
    # Nothing but JSON is ever decoded: a pickle would be code execution.
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_backend": None,
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    # Trials run in children with their own deadline; the pool only waits for them.
    "worker_pool": "threads",
    "worker_concurrency": 1,
    "worker_prefetch_multiplier": 1,
    "task_acks_late": False,
    # Gossip and remote control grow with the square of the farm; cancelling goes by heartbeat.
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_hijack_root_logger": False,
    "worker_detect_quorum_queues": False,
    "worker_proc_alive_timeout": 30.0,
    "task_create_missing_queues": True,
    "broker_connection_timeout": CONNECT_TIMEOUT_S,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_heartbeat": 0,
    "enable_utc": True,
}


class BrokerDown(Exception):
    """The broker did not take the message; try again later, or leave it to the reconciler."""

    transient = True


def make_app(broker_url: str, name: str, ca_file: str) -> Celery:
    """A Celery application with benchfarm's settings; it never becomes the process's default one.

    ``broker_url``: ``redis://``, ``rediss://``, ``redis+socket:///path?virtual_host=0``, or
    ``memory://`` (one process only). ``ca_file``: also trust this certificate authority; it has no
    default, so that no caller forgets it.
    """
    app = Celery(name, broker=broker_url, set_as_current=False, fixups=[])
    app.conf.update(_SETTINGS, broker_transport_options=transport_options(broker_url))
    options = tls.redis_options(broker_url, ca_file)
    if options:
        app.conf.broker_use_ssl = options
    return app


def transport_options(broker_url: str) -> dict[str, Any]:
    """Kombu's options for one broker; those for Redis make it recover from a silently dropped
    connection within seconds."""
    if broker_url.startswith("memory:"):
        return {"polling_interval": 0.1}
    return {
        "priority_steps": [0],
        # The reconciler sends a lost doorbell again. Without the emulation a message that breaks
        # its consumer is gone once read, and the device needs access to no key but its queue.
        "ack_emulation": False,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "retry_on_timeout": True,
        "health_check_interval": HEALTH_CHECK_S,
        # More than the controller has threads that send doorbells: none waits for another or fails.
        "max_connections": 100,
    }


def no_answer(app: Celery) -> str:
    """Try to connect for a few seconds. Returns why it failed, and what to do; empty: the broker
    answers."""
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
    except Exception as error:  # noqa: BLE001 - each transport raises its own
        return broker_faults.explain(error, str(app.conf.broker_url))
    return ""


def queue_name(device: str) -> str:
    """The queue of one device; in Redis it is also the name of the list's key."""
    return f"device.{device}"


def queue(device: str) -> Queue:
    """The queue, on the default exchange and never declared: it has no binding that wiping Redis
    could remove, and a device needs no key but its own queue's."""
    name = queue_name(device)
    return Queue(name, Exchange(""), routing_key=name, no_declare=True)


def ring(app: Celery, device: str, attempt_id: str, **more: Any) -> None:
    """Send ``device`` the doorbell of ``attempt_id``. Raises ``BrokerDown`` within seconds.

    ``more``: further arguments of ``send_task``.
    """
    try:
        app.send_task(
            TASK,
            kwargs={"attempt_id": attempt_id},
            queue=queue(device),
            declare=[],
            argsrepr="",
            kwargsrepr="",
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0.2, "interval_max": 0.2},
            **more,
        )
    except (OperationalError, OSError) as error:
        raise BrokerDown(f"the broker did not take the doorbell of {device}: {error}") from error
