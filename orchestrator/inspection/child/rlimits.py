"""Limits of the process itself, which it cannot lift again unless it runs as root."""

from __future__ import annotations

import ctypes
import math
import resource
import signal

MAPPED_HEADROOM_MIB = 1024
"""Address space above the memory limit: libraries, and what is reserved and never touched."""
OPEN_FILES = 64
PR_SET_PDEATHSIG = 1


def limit(wall_s: float, memory_mib: int, file_bytes: int) -> None:
    """Memory, processor time, open files; no byte is written to a file, no process or thread is
    started, no core dumped, and nothing of it outlives the controller.

    ``memory_mib`` bounds what is allocated (``RLIMIT_DATA``), ``file_bytes`` more may be mapped.
    """
    address_space = ((memory_mib + MAPPED_HEADROOM_MIB) << 20) + file_bytes
    seconds = math.ceil(wall_s) + 1
    for kind, most in (
        (resource.RLIMIT_DATA, memory_mib << 20),
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        highest = resource.getrlimit(kind)[1]
        wanted = most if highest == resource.RLIM_INFINITY else min(most, highest)
        resource.setrlimit(kind, (wanted, wanted))
    # below the hard one, which kills at once and does not say why
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(seconds, hard), hard))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
