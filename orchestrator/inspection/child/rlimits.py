"""Resource limits of the process, which it cannot raise again unless it is root."""

from __future__ import annotations

import ctypes
import math
import resource
import signal

MAPPED_HEADROOM_MIB = 1024
"""Address space above the memory limit, for libraries and reserved but unused mappings."""
OPEN_FILES = 64
PR_SET_PDEATHSIG = 1


def limit(wall_s: float, memory_mib: int, file_bytes: int) -> None:
    """Limit memory, processor time and open files; forbid writing to files, new processes and
    threads, and core dumps; and have the process killed when the controller ends.

    ``memory_mib`` bounds allocations (``RLIMIT_DATA``); ``file_bytes`` more may be mapped.
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
    # the soft limit sends SIGXCPU, which tells the reason; the hard one kills with SIGKILL
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(seconds, hard), hard))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
