"""The agent of one device, from start to stop; in a process or in a thread of one."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from agent.worker.agent_parts import AgentParts, build_parts
from agent.worker.config import AgentConfig
from agent.worker.environments.environments import Environments
from agent.worker.isolation.runner_client import RUNNER, RunnerClient
from agent.worker.state_dir import StateFolders, locked, mark_of, recover
from agent.worker.uplink.outbox import Outbox

STOP_S = 20.0
"""How long ``stop`` waits for the running child and the consumer to end."""
LAST_DELIVERY_S = 5.0
"""How long ``stop`` tries to deliver what the end of an attempt left in the outbox."""


class Agent:
    """One device's agent. ``start`` returns at once; ``stop`` ends everything that runs.

    ``runner`` is the child's ``__main__.py``. An agent is started once.
    """

    def __init__(self, config: AgentConfig, *, runner: Path = RUNNER) -> None:
        self._config = config
        self._runner = RunnerClient(mark_of(config.state_dir), runner)
        self._stopping = threading.Event()
        self._resources = contextlib.ExitStack()
        self._parts: AgentParts | None = None

    def start(self) -> None:
        """Send heartbeats, probe the runtimes, deliver results of before, then consume the queue.

        Raises:
            AlreadyRunning: another agent holds the state folder.
            BadInput: ``agent.json`` or ``environments.json`` is not right.
        """
        folders = StateFolders(self._config.state_dir)
        folders.make()
        environments = Environments(self._config.state_dir, self._runner.probe)
        environments.listed()
        with contextlib.ExitStack() as resources:
            resources.enter_context(locked(folders))
            outbox = Outbox(folders.outbox)
            recover(folders, outbox)
            parts = build_parts(self._config, self._runner, environments, outbox, self._stopping)
            resources.callback(parts.uplink.close)
            self._resources = resources.pop_all()
        self._parts = parts
        parts.heartbeat.start()
        parts.results.start()
        parts.capability_probe.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the device's queue is consumed, at most ``timeout_s``; whether it is."""
        return self._started().consumer.wait_ready(timeout_s)

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """End the running child (its result: ``cancelled``, another attempt makes sense), deliver
        that, and end all threads. False if something did not end in time."""
        parts = self._started()
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        parts.watchdog.stop()
        self._runner.stop_probing()
        parts.heartbeat.leases.shut_down()
        parts.capability_probe.join(timeout_s)
        ended = parts.consumer.stop(max(1.0, deadline - time.monotonic()))
        parts.heartbeat.stop()
        parts.heartbeat.join(LAST_DELIVERY_S)
        if ended:
            ended = parts.results.close(LAST_DELIVERY_S)
        self._resources.close()
        return ended

    def _started(self) -> AgentParts:
        if self._parts is None:
            raise RuntimeError("the agent was not started")
        return self._parts
