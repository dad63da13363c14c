"""Celery's worker, embedded in a thread: hears doorbells, survives bad ones, stops when told.

Not the command line's worker: it would install signal handlers, a banner and its own logging.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kombu.asynchronous
from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.exceptions import WorkerShutdown
from celery.worker import WorkController
from celery.worker.consumer import Consumer

from agent import broker
from agent.worker.broker import tasks
from agent.worker.broker.tasks import parse_doorbell

log = logging.getLogger(__name__)

_QUICK_S = 5.0
_LONGEST_PAUSE_S = 2.0


class _Pool(TaskPool):  # type: ignore[misc]
    """One thread that knows its application, so that several agents fit into one process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = ThreadPoolExecutor(self.limit, "attempt", self.app.set_current)


class _Consumer(Consumer):  # type: ignore[misc]
    """A consumer that a bad message cannot end, and that stops while the broker is away."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        handle = super().create_task_handler(*args, **kwargs)

        def guarded(message: Any) -> None:
            try:
                if self.controller.arrived(message):
                    message.ack_log_error(log, self.connection_errors)
                    return
                handle(message)
            except self.connection_errors:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a stranger put into the queue
                log.warning("dropped a bad message: %s: %s", type(error).__name__, error)
                # Unacknowledged it would be put back, and break the next consumer.
                message.ack_log_error(log, self.connection_errors)

        return guarded

    def ensure_connected(self, conn: Any) -> Any:
        def failing(error: Exception, interval_s: float) -> None:
            log.warning("broker not reachable, again in %.0f s: %s", interval_s, error)

        conn = conn.ensure_connection(
            failing, None, interval_start=1, interval_max=15, callback=self.controller.check_stop
        )
        self.first_connection_attempt = False
        return conn


class _Worker(WorkController):  # type: ignore[misc]
    """Celery's worker with a stop of its own: its usual one is a flag of the whole process."""

    def on_before_init(self, **_: Any) -> None:
        self._stop_asked = threading.Event()

    def arrived(self, message: Any) -> bool:
        """Whether a doorbell is answered already, as it arrives: the pool may be busy for hours."""
        args, kwargs, _ = message.payload
        attempt_id = parse_doorbell(args, kwargs)
        return attempt_id is not None and bool(self.app.benchfarm_arrived(attempt_id))

    def check_stop(self) -> None:
        """Raises ``WorkerShutdown``, once: it is queued for the loop as well, which runs what is
        left of its queue as it closes."""
        if self._stop_asked.is_set():
            self._stop_asked.clear()
            raise WorkerShutdown(0)

    def ask_stop(self) -> None:
        """From any thread; the running task is waited for."""
        self._stop_asked.set()
        consumer = getattr(self, "consumer", None)
        if consumer is not None:
            consumer.call_soon(self.check_stop)


class QueueConsumer:
    """Consumes one device's queue in a thread, starting anew whenever that ends by itself."""

    def __init__(self, app: Celery, device: str) -> None:
        self._app = app
        self._device = device
        self._stopping = threading.Event()
        self._worker: _Worker | None = None
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"doorbell-{device}", daemon=True)

    def start(self) -> None:
        """Begin to listen; returns at once, the broker may be away."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the queue is consumed, waiting for it at most so long."""
        return self._ready.wait(timeout_s)

    def restart(self) -> None:
        """Drop the present connection and consumer and make new ones."""
        with self._lock:
            worker = self._worker
        if worker is not None:
            worker.ask_stop()

    def stop(self, timeout_s: float) -> bool:
        """End the thread, after the task that it runs; false if that takes longer."""
        self._stopping.set()
        self.restart()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._app.set_current()
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            began = time.monotonic()
            self._consume()
            self._ready.clear()
            quick = time.monotonic() - began < _QUICK_S
            pause_s = min(max(0.1, pause_s * 2), _LONGEST_PAUSE_S) if quick else 0.1
            if not self._stopping.is_set():
                log.warning("the consumer ended; it starts again in %.1f s", pause_s)

    def _consume(self) -> None:
        # A hub is global to the process and dead after its worker: each one gets its own.
        kombu.asynchronous.set_event_loop(None)
        try:
            worker = _Worker(
                app=self._app,
                hostname=f"benchfarm@{self._device}",
                pool_cls=_Pool,
                consumer_cls=_Consumer,
                concurrency=1,
                queues=[broker.queue_name(self._device)],
                ready_callback=lambda _: self._ready.set(),
                without_heartbeat=True,
                without_mingle=True,
                without_gossip=True,
            )
            with self._lock:
                self._worker = worker
            if not self._stopping.is_set():
                worker.start()
        except Exception:
            log.exception("the consumer broke")
        except SystemExit:  # Celery's word for a stop that came while it stopped: no end of ours
            log.info("the consumer was stopped twice")
        finally:
            with self._lock, contextlib.suppress(AttributeError):
                self._worker = None


def make_listener(
    broker_url: str,
    device: str,
    handle: Callable[[str], None],
    arrived: Callable[[str], bool] = lambda _: False,
    ca_file: str = "",
) -> tuple[Celery, QueueConsumer]:
    """An application with the task registered, and the doorbell that listens with it.

    ``arrived`` is asked of each doorbell before ``handle``, beside a task that runs: true: it has
    been dealt with.
    """
    app = broker.make_app(broker_url, f"benchfarm-agent-{device}", ca_file)
    app.conf.task_queues = [broker.queue(device)]
    app.benchfarm_arrived = arrived
    tasks.register(app, handle)
    app.finalize()
    return app, QueueConsumer(app, device)
