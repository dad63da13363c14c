"""This machine's own agent: a process beside the controller, started again should it die."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.broker.embedded import tied

log = logging.getLogger(__name__)

STOP_S = 15.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
COMMAND = (sys.executable, "-m", "agent.cli", "run")


@contextlib.contextmanager
def kept_running(home: Path, command: Sequence[str] = COMMAND) -> Iterator[None]:
    """The agent of the state folder ``home`` runs for as long as the block lasts.

    It logs into ``home``/agent.log. One that ends by itself is started again after a pause, which
    doubles each time.
    """
    keeper = _Keeper(home, command)
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()


class _Keeper(threading.Thread):
    """Starts the process itself: a tied one ends with the thread that started it."""

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
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def stop(self) -> None:
        """End the process, gently first, and this thread after it."""
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
                tied(self._command),
                env={**os.environ, "BENCHFARM_AGENT_HOME": str(self._home)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C is the controller's: it stops the agent itself, in order
                start_new_session=True,
            )
