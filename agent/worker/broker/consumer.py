"""The consumer of this device's queue: Celery's worker, embedded in a thread.

A bad message does not end it, it can be stopped while the broker is away, and it starts again
whenever it ends by itself. Not the command line's worker: that one would install signal handlers,
a banner and its own logging.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kombu.asynchronous
from celery.concurrency.thread import TaskPool
from celery.exceptions import WorkerShutdown
from celery.worker import WorkController
from celery.worker.consumer import Consumer

from agent import broker
from agent.worker.broker import tasks
from agent.worker.broker.tasks import parse_doorbell

log = logging.getLogger(__name__)

OnDoorbell = Callable[[str], None]
"""Handles the doorbell of an attempt in the pool's one thread; may take hours."""
OnArrival = Callable[[str], bool]
"""Sees the doorbell of an attempt as it arrives, beside a task that runs. True: it is dealt with
and not handed to ``OnDoorbell``."""

ROUND_TRIP_PREFIX = "watchdog-"
_SHORT_RUN_S = 5.0
"""A consumer that ends sooner than this is started again after a growing pause."""
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
                if self.controller.handled_on_arrival(message):
                    message.ack_log_error(log, self.connection_errors)
                    return
                handle(message)
            except self.connection_errors:
                raise
            except Exception as error:  # noqa: BLE001 - the queue may hold anything
                log.warning("dropped a bad message: %s: %s", type(error).__name__, error)
                # Unacknowledged it would be put back, and break the next consumer.
                message.ack_log_error(log, self.connection_errors)

        return guarded

    def ensure_connected(self, conn: Any) -> Any:
        def log_failure(error: Exception, interval_s: float) -> None:
            log.warning("broker not reachable, again in %.0f s: %s", interval_s, error)

        conn = conn.ensure_connection(
            log_failure,
            None,
            interval_start=1,
            interval_max=15,
            callback=self.controller.check_stop,
        )
        self.first_connection_attempt = False
        return conn


class _Worker(WorkController):  # type: ignore[misc]
    """Celery's worker, with a stop of its own: Celery's is a flag of the whole process."""

    def __init__(self, on_arrival: OnArrival, **options: Any) -> None:
        self._on_arrival = on_arrival
        self._stop_requested = threading.Event()
        super().__init__(**options)

    def handled_on_arrival(self, message: Any) -> bool:
        """Whether the doorbell is dealt with already: the pool may be busy for hours."""
        args, kwargs, _ = message.payload
        attempt_id = parse_doorbell(args, kwargs)
        return attempt_id is not None and self._on_arrival(attempt_id)

    def check_stop(self) -> None:
        """Raise ``WorkerShutdown`` if a stop was requested. Only once: the loop also runs what is
        left of its queue as it closes, and this is in that queue."""
        if self._stop_requested.is_set():
            self._stop_requested.clear()
            raise WorkerShutdown(0)

    def request_stop(self) -> None:
        """End the loop, from any thread; a running task is waited for."""
        self._stop_requested.set()
        consumer = getattr(self, "consumer", None)
        if consumer is not None:
            consumer.call_soon(self.check_stop)


class QueueConsumer:
    """Consumes one device's queue in a thread and passes its doorbells to two handlers.

    ``app`` is the Celery application that it consumes with; one consumer has one.
    """

    def __init__(
        self,
        broker_url: str,
        device: str,
        *,
        on_doorbell: OnDoorbell,
        on_arrival: OnArrival = lambda _: False,
        ca_file: str = "",
    ) -> None:
        self._device = device
        self._on_doorbell = on_doorbell
        self._on_arrival = on_arrival
        self.app = broker.make_app(broker_url, f"benchfarm-agent-{device}", ca_file)
        self.app.conf.task_queues = [broker.queue(device)]
        tasks.register(self.app, self._handle)
        self.app.finalize()
        self._stopping = threading.Event()
        self._worker: _Worker | None = None
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._round_trip_id = ""
        self._round_trip_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"consumer-{device}", daemon=True)

    def start(self) -> None:
        """Begin to consume; returns at once, the broker may be away."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the queue is consumed, at most ``timeout_s``; whether it is."""
        return self._ready.wait(timeout_s)

    def round_trip(self, timeout_s: float) -> bool:
        """Send a doorbell to this queue and wait until it comes back through the pool; whether it
        did in time. ``stop`` ends the waiting. Raises ``BrokerDown``."""
        self._round_trip_done.clear()
        self._round_trip_id = f"{ROUND_TRIP_PREFIX}{uuid.uuid4().hex}"
        broker.ring(self.app, self._device, self._round_trip_id)
        return self._round_trip_done.wait(timeout_s) and not self._stopping.is_set()

    def restart(self) -> None:
        """Drop the connection and the consumer and make new ones."""
        with self._lock:
            worker = self._worker
        if worker is not None:
            worker.request_stop()

    def stop(self, timeout_s: float) -> bool:
        """End the thread, after the task that it runs; false if that takes longer."""
        self._stopping.set()
        self._round_trip_done.set()
        self.restart()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _handle(self, attempt_id: str) -> None:
        if not attempt_id.startswith(ROUND_TRIP_PREFIX):
            self._on_doorbell(attempt_id)
        elif attempt_id == self._round_trip_id:  # not a late one of an earlier round trip
            self._round_trip_done.set()

    def _run(self) -> None:
        self.app.set_current()
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            began = time.monotonic()
            self._consume()
            self._ready.clear()
            short = time.monotonic() - began < _SHORT_RUN_S
            pause_s = min(max(0.1, pause_s * 2), _LONGEST_PAUSE_S) if short else 0.1
            if not self._stopping.is_set():
                log.warning("the consumer ended; it starts again in %.1f s", pause_s)

    def _consume(self) -> None:
        # A hub is global to the process and dead after its worker: each one gets its own.
        kombu.asynchronous.set_event_loop(None)
        try:
            worker = _Worker(
                self._on_arrival,
                app=self.app,
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
        except SystemExit:  # Celery's answer to a second stop while it stops
            log.info("the consumer was stopped twice")
        finally:
            with self._lock:
                self._worker = None
