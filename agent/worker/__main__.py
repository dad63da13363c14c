"""``python -m agent.worker``: the same as ``benchfarm-agent run``, without the memory that the
command line's libraries take."""

from __future__ import annotations

import sys

from agent.worker import config, daemon
from agent.worker.errors import AgentError

try:
    daemon.run(config.load(config.default_state_dir()))
except AgentError as error:
    sys.exit(f"benchfarm-agent: {error}")
