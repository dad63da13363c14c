"""Finds out what this device can run, at start and on changes, and tells the controller."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent import facts
from agent.contract.device import DeviceFacts
from agent.worker.environments.environments import Environments
from agent.worker.errors import AgentError, BadInput
from agent.worker.isolation import proc_scan
from agent.worker.isolation.child_process import MARK
from agent.worker.state_dir import mark_of
from agent.worker.uplink.http_client import Uplink

log = logging.getLogger(__name__)

CHECK_PERIOD_S = 5.0
"""Between two checks whether the runtime environments have changed."""
LONGEST_RETRY_S = 600.0
"""Longest pause between two probes of an interpreter that gives no answer; the first pause is
``CHECK_PERIOD_S``, and it doubles."""


class CapabilityProbe(threading.Thread):
    """Runs until ``stopping``. ``on_probed`` is called once, when the runtimes have been probed.

    ``board_lock`` is held while an attempt runs, and while runtimes are probed again: neither ever
    runs beside the other.
    """

    def __init__(
        self,
        device: str,
        state_dir: Path,
        environments: Environments,
        uplink: Uplink,
        *,
        on_probed: Callable[[], None],
        board_lock: threading.Lock,
        stopping: threading.Event,
    ) -> None:
        super().__init__(name="capability-probe", daemon=True)
        self._device = device
        self._state_dir = state_dir
        self._environments = environments
        self._uplink = uplink
        self._on_probed = on_probed
        self._board_lock = board_lock
        self._stopping = stopping
        self._retry_at, self._retry_s = 0.0, CHECK_PERIOD_S

    def run(self) -> None:
        """Probe, then listen (an attempt must find its environment), then tell the controller."""
        try:
            proc_scan.kill_marked(MARK, f"{mark_of(self._state_dir)}:")
            seen = self._environments.stamp()
            runtimes = self._environments.probe_all()
            if self._stopping.is_set():
                return
            self._on_probed()
            tools = self._environments.tools()
            collected = facts.collect(self._state_dir, runtimes=runtimes, tools=tools)
            while not self._stopping.is_set() and not self._report(collected):
                self._stopping.wait(10.0)
        except Exception:
            log.exception("the agent could not begin to listen")
            return
        while not self._stopping.wait(CHECK_PERIOD_S):
            seen = self._check(seen)

    def _check(self, seen: tuple[int, int]) -> tuple[int, int]:
        """Probe and tell the controller where the environments have changed since the stamp
        ``seen``, or where one gave no answer and its retry is due; not while an attempt runs.
        Returns the stamp that the controller knows now."""
        now = self._environments.stamp()
        retry = time.monotonic() >= self._retry_at and bool(self._environments.silent())
        if (now == seen and not retry) or not self._board_lock.acquire(blocking=False):
            return seen
        try:
            if now == seen:
                self._retry_at = time.monotonic() + self._retry_s
                self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
                runtimes = self._environments.ask_silent()
            else:
                log.info("the runtime environments have changed: they are probed again")
                self._retry_at, self._retry_s = 0.0, CHECK_PERIOD_S
                runtimes = self._environments.probe_all()
        except BadInput as error:
            log.error("%s", error)
            return now
        finally:
            self._board_lock.release()
        tools = self._environments.tools()
        collected = facts.collect(self._state_dir, runtimes=runtimes, tools=tools)
        return now if not self._stopping.is_set() and self._report(collected) else seen

    def _report(self, collected: DeviceFacts) -> bool:
        """Send the facts to the controller; whether it took them."""
        try:
            self._uplink.facts(self._device, collected, patience_s=60.0)
        except AgentError as error:
            log.warning("could not tell the controller what this device is: %s", error)
            return False
        return True
