"""Limits that a child keeps for all its life, set from outside (prlimit(2))."""

from __future__ import annotations

import contextlib
import os
import resource

from agent.worker.isolation import proc_scan

DATA_HEADROOM_MIB = 1024
"""RLIMIT_DATA lies that far above the limit on resident memory: it counts thread stacks and
allocator arenas that are reserved and never touched. It stops what allocates between two checks."""
OPEN_FILES = 4096
FILE_MAX_BYTES = 16 << 30
"""One file that a child writes: as much as an archive may unpack to."""
PROCESSES_HEADROOM = 4096
"""Processes and threads above those that the agent's user has already, which the system counts
together. Not for root, who has no such limit."""


def limit(pid: int, memory_mib: int) -> None:
    """By the hard limits no code in the child lifts them, unless it runs as root. Its own first act
    is to give up new privileges (``agent.privileges``)."""
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
            most = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
            resource.prlimit(pid, kind, (most, most))
