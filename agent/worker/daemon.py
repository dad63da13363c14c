"""The agent as a process of its own: logging and signals."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from pathlib import Path

from agent.worker.agent import Agent
from agent.worker.config import AgentConfig, write_atomically
from agent.worker.errors import AgentError
from agent.worker.isolation import agent_cgroup
from agent.worker.isolation.runner_client import RUNNER

log = logging.getLogger(__name__)


def run(config: AgentConfig, *, verbose: bool = False, runner: Path = RUNNER) -> None:
    """Run until SIGTERM or SIGINT: the running child is ended, reported, and the process exits.

    ``runner`` is the child's ``__main__.py``.
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("httpx", "httpcore", "celery", "kombu"):
        logging.getLogger(chatty).setLevel(logging.DEBUG if verbose else logging.WARNING)
    stop_requested = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_requested.set())
    bounds = agent_cgroup.settle()  # before there is a thread or a child
    log.info("%s", bounds)
    agent = Agent(config, runner=runner)
    agent.start()
    _write_bounds(config.state_dir, bounds)
    stop_requested.wait()
    log.info("stopping")
    if not agent.stop():
        raise AgentError("something did not end in time; what is undelivered stays in the outbox")


def _write_bounds(state_dir: Path, bounds: str) -> None:
    """Write what bounds children, for ``doctor``, which is not in the agent's control group."""
    with contextlib.suppress(OSError):  # a full disk; it is in the log too
        write_atomically(state_dir / agent_cgroup.NOTE_NAME, bounds + "\n")
