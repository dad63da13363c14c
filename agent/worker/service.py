"""The agent itself: heartbeats, doorbell, attempts, outbox; in a process or in a thread of one."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import re
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import codec, facts
from agent.contract import Failure
from agent.device_facts import DeviceFacts
from agent.uplink_messages import Started
from agent.worker import attempt, processes
from agent.worker.blobs import Blobs
from agent.worker.courier import Courier
from agent.worker.doorbell import make_listener
from agent.worker.engines import Engines
from agent.worker.environments import FILE_NAME, Environments
from agent.worker.errors import AgentError, AlreadyRunning, BadInput, NotOurs, Superseded
from agent.worker.heart import Heart, vitals_of
from agent.worker.isolate import MARK, read_stage
from agent.worker.outbox import Outbox, Parcel
from agent.worker.runner import RUNNER, Runner
from agent.worker.runtimes import ATTEMPT_LOCK_NAME
from agent.worker.settings import AgentConfig
from agent.worker.uplink import Uplink
from agent.worker.watchdog import Watchdog

log = logging.getLogger(__name__)

STOP_S = 20.0
"""How long ``stop`` waits for the running child's end and the consumer's."""
LOOK_S = 5.0
"""Between two looks at whether the runtime environments have changed."""
LONGEST_ASK_S = 600.0
"""Between two probes of an interpreter that gives no answer, at last; at first ``LOOK_S``."""
REMOVAL_S = 120.0
"""How long an attempt waits for an environment that is just being removed."""
LEAST_FREE_BYTES = 16 << 20
"""With less in its state folder a board begins nothing: it could not keep the result."""
KEEP_AGAIN_S = 2.0
"""Between two tries to keep a result on a disk that is full."""
FAREWELL_S = 5.0
"""How long ``stop`` tries to deliver what the end of an attempt left in the outbox."""


@dataclass(frozen=True)
class Folders:
    """Where things lie below the state folder."""

    state: Path

    @property
    def attempts(self) -> Path:
        return self.state / "attempts"

    @property
    def samples(self) -> Path:
        return self.state / "samples"

    @property
    def outbox(self) -> Path:
        return self.state / "outbox.sqlite"

    def make(self) -> None:
        """Create them."""
        for folder in (self.state, self.attempts, self.samples):
            folder.mkdir(parents=True, exist_ok=True)


def mark_of(state_dir: Path) -> str:
    """What every child of the agent on this state folder carries in its environment."""
    return str(state_dir.resolve())


def fingerprint(device: DeviceFacts) -> str:
    """What makes a converted engine this device's own: architecture and processor."""
    return f"{device.machine} {device.cpu_model or 'unknown'}"


@dataclass(frozen=True)
class _Desk:
    """What a started agent works at."""

    outbox: Outbox
    courier: Courier
    tools: attempt.Tools

    def keep(self, finished: attempt.Finished, wait: Callable[[float], bool]) -> bool:
        """Put a result into the outbox, and have it carried.

        On a disk that is full it gives up what can be fetched or made again, and hands the result
        in from memory, until one of the two succeeds. ``wait`` sleeps, and says whether the agent
        stops: then this is false, and the next agent reports the attempt as lost.
        """
        attempt_id, text = finished.result.attempt_id, codec.dumps(finished.result)
        while True:
            try:
                self.outbox.put(attempt_id, text, finished.blob)
            except (sqlite3.Error, OSError) as error:
                log.error("the result of %s cannot be kept: %s", attempt_id, error)
            else:
                self.courier.kick()
                return True
            self.make_room()
            if self.courier.hand_in(Parcel(attempt_id, text, finished.blob, 0)):
                return True
            if wait(KEEP_AGAIN_S):
                return False

    def make_room(self) -> None:
        """Give up what can be fetched or made again."""
        with contextlib.suppress(OSError):
            self.tools.blobs.evict(incoming_bytes=sys.maxsize)

    def close(self, timeout_s: float) -> bool:
        """Try to deliver what is left, then end; false if a delivery hangs."""
        deadline = time.monotonic() + timeout_s
        self.courier.kick()
        while self.outbox.waiting() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.courier.stop()
        self.courier.join(timeout_s)
        if self.courier.is_alive():
            return False
        self.outbox.close()
        return True


class Agent:
    """One device's agent. ``start`` returns at once; ``stop`` ends what runs and says so.

    ``runner`` is the child's ``__main__.py``. An agent is started once.

    Raises:
        AlreadyRunning: (from ``start``) another agent holds the state folder.
        BadInput: (from ``start``) ``environments.json`` is not right.
    """

    def __init__(self, config: AgentConfig, *, runner: Path = RUNNER) -> None:
        self._config = config
        self._folders = Folders(config.state_dir)
        self._stopping = threading.Event()
        self._uplink = Uplink(
            config.controller_url, config.token, ca_file=config.ca_file, wait=self._stopping.wait
        )
        self._runner = Runner(mark_of(config.state_dir), runner)
        self.environments = Environments(config.state_dir, self._runner.probe)
        self._app, self._doorbell = make_listener(
            config.broker_url, config.device, self.ring, self.arrived, config.ca_file
        )
        self._heart = Heart(
            self._uplink,
            config.device,
            config.heartbeat_s,
            vitals=lambda: vitals_of(config.state_dir),
        )
        self._boot = threading.Thread(target=self._booted, name="boot", daemon=True)
        self._watchdog = Watchdog(self._app, config.device, self._doorbell, self._is_idle)
        self._busy = threading.Lock()
        self._quiet = threading.Lock()
        """Held by an attempt and by probing: neither ever runs beside the other."""
        self._resources = contextlib.ExitStack()
        self._desk: _Desk | None = None
        self._ask_at, self._ask_s = 0.0, LOOK_S

    def start(self) -> None:
        """Begin to beat, probe the runtimes, deliver what is left over, then listen."""
        self._folders.make()
        self.environments.listed()
        self._resources.enter_context(_locked(self._folders.state / "agent.lock"))
        outbox = Outbox(self._folders.outbox)
        _recover(self._folders, outbox)
        self._desk = _Desk(outbox, Courier(outbox, self._uplink), self._make_tools())
        self._heart.start()
        self._desk.courier.start()
        self._boot.start()

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
        self._boot.join(timeout_s)
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

    def _answer(self, attempt_id: str, desk: _Desk) -> None:
        asked_at = time.monotonic()
        if not self._has_room(desk):
            log.error("less than %d MiB free: %s must wait", LEAST_FREE_BYTES >> 20, attempt_id)
            return
        try:
            started = self._uplink.start(attempt_id)
        except (NotOurs, Superseded) as error:
            log.info("dropped the doorbell of %s: %s", attempt_id, error)
            return
        except codec.ContractError as error:
            failure = Failure("environment", "contract", f"this agent cannot read it: {error}")
            desk.keep(attempt.Finished(attempt.failed(attempt_id, failure)), self._stopping.wait)
            return
        except AgentError as error:
            log.warning("could not start %s, the controller will ring again: %s", attempt_id, error)
            return
        self._execute(attempt_id, started, asked_at, desk)

    def _has_room(self, desk: _Desk) -> bool:
        """Whether there is space to work; a doorbell that is not answered costs no try."""
        if shutil.disk_usage(self._folders.state).free >= LEAST_FREE_BYTES:
            return True
        desk.make_room()
        return shutil.disk_usage(self._folders.state).free >= LEAST_FREE_BYTES

    def _execute(self, attempt_id: str, started: Started, asked_at: float, desk: _Desk) -> None:
        log.info("attempt %s begins", attempt_id)
        folder = self._folders.attempts / _folder_name(attempt_id)
        with (
            self._heart.leases.held(attempt_id, started.lease_s, asked_at) as cancel,
            self._environments_kept(),
        ):
            try:
                _begin(folder, attempt_id)
            except OSError as error:  # the disk has filled up since we looked
                finished = attempt.broken(attempt_id, error)
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

    def _make_tools(self) -> attempt.Tools:
        config = self._config
        return attempt.Tools(
            blobs=Blobs(config.state_dir / "blobs", config.blobs_max_mib << 20),
            engines=Engines(config.state_dir / "engines", config.engines_max_mib << 20),
            environments=self.environments,
            runner=self._runner,
            open_blob=self._uplink.open_blob,
            fingerprint=fingerprint(facts.collect(config.state_dir)),
            samples_dir=self._folders.samples,
        )

    def _booted(self) -> None:
        """Probe, then listen (an attempt must find its environment), then tell the controller."""
        try:
            processes.kill_marked(MARK, f"{mark_of(self._folders.state)}:")
            seen = self._environments_stamp()
            runtimes = self.environments.probe_all()
            if self._stopping.is_set():
                return
            self._doorbell.start()
            self._watchdog.start()
            tools = self.environments.tools()
            known = facts.collect(self._folders.state, runtimes=runtimes, tools=tools)
            while not self._stopping.is_set() and not self._told(known):
                self._stopping.wait(10.0)
        except Exception:
            log.exception("the agent could not begin to listen")
            return
        while not self._stopping.wait(LOOK_S):
            seen = self._look(seen)

    def _look(self, seen: tuple[int, int]) -> tuple[int, int]:
        """Where the environments have changed since ``seen``, or one gave no answer a while ago,
        and no attempt runs: probe, and tell the controller. What has been seen by now."""
        now = self._environments_stamp()
        again = time.monotonic() >= self._ask_at and bool(self.environments.silent())
        if (now == seen and not again) or not self._quiet.acquire(blocking=False):
            return seen
        try:
            if now == seen:
                self._ask_at = time.monotonic() + self._ask_s
                self._ask_s = min(2 * self._ask_s, LONGEST_ASK_S)
                runtimes = self.environments.ask_silent()
            else:
                log.info("the runtime environments have changed: they are probed again")
                self._ask_at, self._ask_s = 0.0, LOOK_S
                runtimes = self.environments.probe_all()
        except BadInput as error:
            log.error("%s", error)
            return now
        finally:
            self._quiet.release()
        tools = self.environments.tools()
        known = facts.collect(self._folders.state, runtimes=runtimes, tools=tools)
        return now if not self._stopping.is_set() and self._told(known) else seen

    def _environments_stamp(self) -> tuple[int, int]:
        """Changes whenever the list of environments is written anew."""
        try:
            found = (self._folders.state / FILE_NAME).stat()
        except OSError:
            return (0, 0)
        return (found.st_ino, found.st_mtime_ns)

    def _told(self, known: DeviceFacts) -> bool:
        try:
            self._uplink.facts(self._config.device, known, patience_s=60.0)
        except AgentError as error:
            log.warning("could not tell the controller what this device is: %s", error)
            return False
        return True

    def _is_idle(self) -> bool:
        return not self._busy.locked()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"another agent runs with the state folder {path.parent}"
            ) from None
        yield


def _recover(folders: Folders, outbox: Outbox) -> None:
    """Report attempts that a kill or a power cut ended, so that nobody waits for their leases."""
    for folder in folders.attempts.iterdir():
        with contextlib.suppress(OSError):
            attempt_id = (folder / "attempt_id").read_text("utf-8")
            stage = read_stage(folder / "trial") or "environment"
            failure = Failure(stage, "agent_died", "the agent ended while executing it", True)
            outbox.put(attempt_id, codec.dumps(attempt.failed(attempt_id, failure)), None)
        shutil.rmtree(folder, ignore_errors=True)
    used = outbox.samples_in_use()
    for path in folders.samples.iterdir():
        if path not in used:
            path.unlink(missing_ok=True)


def _begin(folder: Path, attempt_id: str) -> None:
    """Make an attempt's folder, by which the next agent knows that it was begun."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "trial").mkdir(parents=True)
    (folder / "attempt_id").write_text(attempt_id, "utf-8")


def _folder_name(attempt_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", attempt_id)
