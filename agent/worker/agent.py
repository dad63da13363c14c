"""The agent itself: heartbeats, doorbell, attempts, outbox; in a process or in a thread of one."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from agent import facts
from agent.contract import codec
from agent.contract.api_messages import Started
from agent.contract.device import DeviceFacts
from agent.contract.failures import make_failure
from agent.worker.attempts import attempt
from agent.worker.attempts.engine_cache import EngineCache
from agent.worker.attempts.result_keeper import LEAST_FREE_BYTES, ResultKeeper
from agent.worker.broker.consumer import make_listener
from agent.worker.broker.watchdog import Watchdog
from agent.worker.capability_probe import CapabilityProbe
from agent.worker.config import AgentConfig
from agent.worker.environments.commands import ATTEMPT_LOCK_NAME
from agent.worker.environments.environments import Environments
from agent.worker.errors import AgentError, AttemptSuperseded, AttemptUnknown
from agent.worker.isolation.runner_client import RUNNER, RunnerClient
from agent.worker.state_dir import StateFolders, begin, locked, mark_of, recover
from agent.worker.uplink.blob_cache import BlobCache
from agent.worker.uplink.heartbeat import HeartbeatSender, vitals_of
from agent.worker.uplink.http_client import Uplink
from agent.worker.uplink.outbox import Outbox
from agent.worker.uplink.result_sender import ResultSender

log = logging.getLogger(__name__)

STOP_S = 20.0
"""How long ``stop`` waits for the running child's end and the consumer's."""
REMOVAL_S = 120.0
"""How long an attempt waits for an environment that is just being removed."""
FAREWELL_S = 5.0
"""How long ``stop`` tries to deliver what the end of an attempt left in the outbox."""


def fingerprint(device: DeviceFacts) -> str:
    """What makes a converted engine this device's own: architecture and processor."""
    return f"{device.machine} {device.cpu_model or 'unknown'}"


class Agent:
    """One device's agent. ``start`` returns at once; ``stop`` ends what runs and says so.

    ``runner`` is the child's ``__main__.py``. An agent is started once.

    Raises:
        AlreadyRunning: (from ``start``) another agent holds the state folder.
        BadInput: (from ``start``) ``environments.json`` is not right.
    """

    def __init__(self, config: AgentConfig, *, runner: Path = RUNNER) -> None:
        self._config = config
        self._folders = StateFolders(config.state_dir)
        self._stopping = threading.Event()
        self._uplink = Uplink(
            config.controller_url, config.token, ca_file=config.ca_file, wait=self._stopping.wait
        )
        self._runner = RunnerClient(mark_of(config.state_dir), runner)
        self.environments = Environments(config.state_dir, self._runner.probe)
        self._app, self._doorbell = make_listener(
            config.broker_url, config.device, self.ring, self.arrived, config.ca_file
        )
        self._heart = HeartbeatSender(
            self._uplink,
            config.device,
            config.heartbeat_s,
            vitals=lambda: vitals_of(config.state_dir),
        )
        self._watchdog = Watchdog(self._app, config.device, self._doorbell, self._is_idle)
        self._busy = threading.Lock()
        self._quiet = threading.Lock()
        self._lookout = CapabilityProbe(
            config.device,
            config.state_dir,
            self.environments,
            self._uplink,
            listen=self._listen,
            quiet=self._quiet,
            stopping=self._stopping,
        )
        self._resources = contextlib.ExitStack()
        self._desk: ResultKeeper | None = None

    def start(self) -> None:
        """Begin to beat, probe the runtimes, deliver what is left over, then listen."""
        self._folders.make()
        self.environments.listed()
        self._resources.enter_context(locked(self._folders))
        outbox = Outbox(self._folders.outbox)
        recover(self._folders, outbox)
        self._desk = ResultKeeper(outbox, ResultSender(outbox, self._uplink), self._make_tools())
        self._heart.start()
        self._desk.courier.start()
        self._lookout.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the device's queue is consumed, waiting for it at most so long."""
        return self._doorbell.wait_ready(timeout_s)

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """End the running child (its result: ``cancelled``, another attempt makes sense), deliver
        that, and end all threads. False if something did not end in time."""
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._watchdog.stop()
        self._runner.stop_probing()
        self._heart.leases.shut_down()
        self._lookout.join(timeout_s)
        ended = self._doorbell.stop(max(1.0, deadline - time.monotonic()))
        self._heart.stop()
        self._heart.join(FAREWELL_S)
        if self._desk is not None and ended:
            ended = self._desk.close(FAREWELL_S)
        self._uplink.close()
        self._resources.close()
        return ended

    def arrived(self, attempt_id: str) -> bool:
        """A doorbell of the attempt under way: something has changed, and a heartbeat says what."""
        if not attempt_id or attempt_id != self._heart.leases.attempt_id:
            return False
        self._heart.beat_soon()
        return True

    def ring(self, attempt_id: str) -> None:
        """Answer a doorbell: execute the attempt if it is ours to execute; never raises.

        One for an attempt that runs, or whose result was kept, is dropped.
        """
        if self._watchdog.heard(attempt_id) or self._stopping.is_set():
            return
        assert self._desk is not None
        if self._desk.outbox.knows(attempt_id) or not self._busy.acquire(blocking=False):
            log.info("dropped a doubled doorbell of %s", attempt_id)
            return
        try:
            with self._quiet:
                if not self._stopping.is_set():
                    self._answer(attempt_id, self._desk)
        except Exception:
            log.exception("attempt %s was given up", attempt_id)
        finally:
            self._busy.release()

    def _answer(self, attempt_id: str, desk: ResultKeeper) -> None:
        asked_at = time.monotonic()
        if not desk.has_room(self._folders.state):
            log.error("less than %d MiB free: %s must wait", LEAST_FREE_BYTES >> 20, attempt_id)
            return
        try:
            started = self._uplink.start(attempt_id)
        except (AttemptUnknown, AttemptSuperseded) as error:
            log.info("dropped the doorbell of %s: %s", attempt_id, error)
            return
        except codec.ContractError as error:
            failure = make_failure("environment", "contract", f"this agent cannot read it: {error}")
            desk.keep(
                attempt.FinishedAttempt(attempt.failed_result(attempt_id, failure)),
                self._stopping.wait,
            )
            return
        except AgentError as error:
            log.warning("could not start %s, the controller will ring again: %s", attempt_id, error)
            return
        self._execute(attempt_id, started, asked_at, desk)

    def _execute(
        self, attempt_id: str, started: Started, asked_at: float, desk: ResultKeeper
    ) -> None:
        log.info("attempt %s begins", attempt_id)
        folder = self._folders.attempt(attempt_id)
        with (
            self._heart.leases.held(attempt_id, started.lease_s, asked_at) as cancel,
            self._environments_kept(),
        ):
            try:
                begin(folder, attempt_id)
            except OSError as error:  # the disk has filled up since we looked
                finished = attempt.failed_to_begin(attempt_id, error)
            else:
                finished = attempt.execute(started.request, desk.tools, cancel, folder, asked_at)
            kept = desk.keep(finished, self._stopping.wait)
        if kept:
            shutil.rmtree(folder, ignore_errors=True)
        failure = finished.result.failure
        log.info(
            "attempt %s ends: %s%s",
            attempt_id,
            finished.result.status,
            f" ({failure.stage}: {failure.message})" if failure else "",
        )

    @contextlib.contextmanager
    def _environments_kept(self) -> Iterator[None]:
        """Inside, `runtimes remove` waits; one that deletes right now is waited for."""
        deadline = time.monotonic() + REMOVAL_S
        with (self._folders.state / ATTEMPT_LOCK_NAME).open("w") as file:
            while not self._stopping.is_set():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        log.warning("an environment is being removed for %.0f s", REMOVAL_S)
                        break
                self._stopping.wait(0.2)
            yield

    def _make_tools(self) -> attempt.AttemptServices:
        config = self._config
        return attempt.AttemptServices(
            blobs=BlobCache(config.state_dir / "blobs", config.blobs_max_mib << 20),
            engines=EngineCache(config.state_dir / "engines", config.engines_max_mib << 20),
            environments=self.environments,
            runner=self._runner,
            open_blob=self._uplink.open_blob,
            fingerprint=fingerprint(facts.collect(config.state_dir)),
            samples_dir=self._folders.samples,
        )

    def _listen(self) -> None:
        self._doorbell.start()
        self._watchdog.start()

    def _is_idle(self) -> bool:
        return not self._busy.locked()
