"""What this device can run: looked at when the agent starts and whenever that changes, and told to
the controller."""

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

LOOK_S = 5.0
"""Between two looks at whether the runtime environments have changed."""
LONGEST_ASK_S = 600.0
"""Between two probes of an interpreter that gives no answer, at last; at first ``LOOK_S``."""


class CapabilityProbe(threading.Thread):
    """Runs until ``stopping``. ``listen`` is called once, when the runtimes have been probed.

    ``quiet`` is held by an attempt, and by probing again: neither ever runs beside the other.
    """

    def __init__(
        self,
        device: str,
        state_dir: Path,
        environments: Environments,
        uplink: Uplink,
        *,
        listen: Callable[[], None],
        quiet: threading.Lock,
        stopping: threading.Event,
    ) -> None:
        super().__init__(name="lookout", daemon=True)
        self._device = device
        self._state_dir = state_dir
        self._environments = environments
        self._uplink = uplink
        self._listen = listen
        self._quiet = quiet
        self._stopping = stopping
        self._ask_at, self._ask_s = 0.0, LOOK_S

    def run(self) -> None:
        """Probe, then listen (an attempt must find its environment), then tell the controller."""
        try:
            proc_scan.kill_marked(MARK, f"{mark_of(self._state_dir)}:")
            seen = self._environments.stamp()
            runtimes = self._environments.probe_all()
            if self._stopping.is_set():
                return
            self._listen()
            tools = self._environments.tools()
            known = facts.collect(self._state_dir, runtimes=runtimes, tools=tools)
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
        now = self._environments.stamp()
        again = time.monotonic() >= self._ask_at and bool(self._environments.silent())
        if (now == seen and not again) or not self._quiet.acquire(blocking=False):
            return seen
        try:
            if now == seen:
                self._ask_at = time.monotonic() + self._ask_s
                self._ask_s = min(2 * self._ask_s, LONGEST_ASK_S)
                runtimes = self._environments.ask_silent()
            else:
                log.info("the runtime environments have changed: they are probed again")
                self._ask_at, self._ask_s = 0.0, LOOK_S
                runtimes = self._environments.probe_all()
        except BadInput as error:
            log.error("%s", error)
            return now
        finally:
            self._quiet.release()
        tools = self._environments.tools()
        known = facts.collect(self._state_dir, runtimes=runtimes, tools=tools)
        return now if not self._stopping.is_set() and self._told(known) else seen

    def _told(self, known: DeviceFacts) -> bool:
        try:
            self._uplink.facts(self._device, known, patience_s=60.0)
        except AgentError as error:
            log.warning("could not tell the controller what this device is: %s", error)
            return False
        return True
