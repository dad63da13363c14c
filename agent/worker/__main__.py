"""``python -m agent.worker``: as ``benchfarm-agent run``, less the memory of a command line."""

from __future__ import annotations

import sys

from agent.worker import process, settings
from agent.worker.errors import AgentError

try:
    process.run(settings.load(settings.default_state_dir()))
except AgentError as error:
    sys.exit(f"benchfarm-agent: {error}")
