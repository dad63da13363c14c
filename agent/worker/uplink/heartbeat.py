"""Liveness: heartbeats to the controller, whose answers renew the lease or cancel the attempt."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import agent
from agent.contract.api_messages import Heartbeat
from agent.facts import memory
from agent.telemetry.thermal import hottest_c
from agent.worker.errors import AgentError, Unauthorised
from agent.worker.uplink.http_client import Uplink
from agent.worker.uplink.leases import Leases

log = logging.getLogger(__name__)

UNAUTHORISED_WAIT_S = 30.0
BEAT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class BoardStatus:
    """The board's state at one heartbeat; ``None``: it could not be read."""

    storage_free_mib: float | None = None
    temperature_c: float | None = None


def read_board_status(state_dir: Path) -> BoardStatus:
    """Read it now. Two or three small reads, for it happens beside a measurement too."""
    try:
        free_mib: float | None = memory.free_mib(state_dir)
    except OSError:
        free_mib = None
    return BoardStatus(free_mib, hottest_c())


class HeartbeatSender(threading.Thread):
    """Sends heartbeats until stopped, and keeps the lease of the attempt that runs (``leases``)."""

    def __init__(
        self,
        uplink: Uplink,
        device: str,
        heartbeat_s: float,
        *,
        read_status: Callable[[], BoardStatus] = BoardStatus,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name=f"heartbeat-{device}", daemon=True)
        self.leases = Leases(clock, self.beat_soon)
        self._uplink = uplink
        self._device = device
        self._heartbeat_s = heartbeat_s
        self._read_status = read_status
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._connected: bool | None = None

    def beat_soon(self) -> None:
        """Send the next heartbeat now instead of after the usual wait."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                wait_s = self._beat()
            except Exception:
                log.exception("a heartbeat failed")
                wait_s = self.leases.interval_s(self._heartbeat_s)
            self.leases.expire()
            self._wake.wait(wait_s)

    def _beat(self) -> float:
        attempt_id, sent_at = self.leases.attempt_id, self._clock()
        status = self._read_status()
        beat = Heartbeat(
            agent.__version__,
            attempt_id,
            at_unix_ns=time.time_ns(),
            storage_free_mib=status.storage_free_mib,
            temperature_c=status.temperature_c,
        )
        try:
            answer = self._uplink.heartbeat(self._device, beat, timeout_s=BEAT_TIMEOUT_S)
        except Unauthorised as error:
            self._log_change(False, error)
            return self.leases.interval_s(UNAUTHORISED_WAIT_S)
        except AgentError as error:
            self._log_change(False, error)
            return self.leases.interval_s(self._heartbeat_s)
        self._heartbeat_s = max(0.1, answer.heartbeat_s)
        self.leases.answered(attempt_id, answer, sent_at)
        self._log_change(True, None)
        return self.leases.interval_s(self._heartbeat_s)

    def _log_change(self, connected: bool, error: AgentError | None) -> None:
        """Log only when the connection comes or goes: an hour without network is one line."""
        if connected and not self._connected:
            log.info("connected to the controller as %s", self._device)
        elif not connected and self._connected is not False:
            log.warning("heartbeat not answered: %s", error)
        self._connected = connected
