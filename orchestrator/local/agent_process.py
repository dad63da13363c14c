"""The local agent's process, which is restarted if it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.broker.embedded import tied_to_parent

log = logging.getLogger(__name__)

STOP_S = 15.0
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
COMMAND = (sys.executable, "-m", "agent.cli", "run")


@contextlib.contextmanager
def supervised_agent(home: Path, command: Sequence[str] = COMMAND) -> Iterator[None]:
    """The agent with the state folder ``home`` runs for as long as the block lasts.

    It logs to ``home``/agent.log. If it ends by itself it is restarted after a pause, which doubles
    each time.
    """
    supervisor = _AgentSupervisor(home, command)
    supervisor.start()
    try:
        yield
    finally:
        supervisor.stop()


class _AgentSupervisor(threading.Thread):
    """The thread that starts and awaits the process: with PR_SET_PDEATHSIG a process ends with the
    thread that started it."""

    def __init__(self, home: Path, command: Sequence[str]) -> None:
        super().__init__(name="local-agent", daemon=True)
        self._home = home
        self._command = command
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with self._lock:
                if self._stopping.is_set():
                    return
                process = self._process = self._spawn()
            code = process.wait()
            if self._stopping.is_set():
                return
            log.warning(
                "the local agent ended (%s), it is started again in %.0f s; see %s",
                f"exit code {code}" if code >= 0 else f"signal {-code}",
                pause_s,
                self._log_path,
            )
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def stop(self) -> None:
        """Terminate the process, kill it after ``STOP_S``, and end this thread."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.terminate()
            self.join(STOP_S)
            if self.is_alive():
                process.kill()
        self.join()

    @property
    def _log_path(self) -> Path:
        return self._home / "agent.log"

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as out:
            return subprocess.Popen(
                tied_to_parent(self._command),
                env={**os.environ, "BENCHFARM_AGENT_HOME": str(self._home)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C reaches only the controller, which then stops the agent
                start_new_session=True,
            )
