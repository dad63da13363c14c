"""A child's resource limits, set by its parent (prlimit(2))."""

from __future__ import annotations

import contextlib
import os
import resource

from agent.worker.isolation import proc_scan

DATA_HEADROOM_MIB = 1024
"""How far RLIMIT_DATA is above the limit on resident memory, for it also counts thread stacks and
allocator arenas that are reserved and never touched. It stops a child that allocates fast between
two checks of its memory."""
OPEN_FILES = 4096
FILE_MAX_BYTES = 16 << 30
"""Largest file that a child may write: as much as an archive may unpack to."""
PROCESSES_HEADROOM = 4096
"""Processes and threads that a child may start beside those that the agent's user has already,
which the system counts together. Root has no such limit."""


def limit(pid: int, memory_mib: int) -> None:
    """Set the hard limits too, so that the child cannot lift them unless it runs as root. The child
    first gives up new privileges (``agent.privileges``)."""
    data = (memory_mib + DATA_HEADROOM_MIB) << 20
    tasks = proc_scan.tasks_of(os.getuid()) + PROCESSES_HEADROOM
    for kind, wanted in (
        (resource.RLIMIT_DATA, data),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, FILE_MAX_BYTES),
        (resource.RLIMIT_NPROC, tasks),
    ):
        with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
            highest = resource.prlimit(pid, kind)[1]
            allowed = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
            resource.prlimit(pid, kind, (allowed, allowed))
