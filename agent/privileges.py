"""Drops a child's ability to gain privileges, before it reads a model."""

from __future__ import annotations

import ctypes
import sys

PR_SET_NO_NEW_PRIVS = 38
"""prctl(2), Linux 3.5: programs started from now on gain no rights by setuid bits or file
capabilities, and no child process can undo it."""


def give_up_privileges() -> None:
    """Set ``no_new_privs``. A system without it only logs that: it is one of several measures."""
    try:
        # variadic: without these types the fifth argument would be undefined
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl.argtypes = (ctypes.c_int, *4 * (ctypes.c_ulong,))
        refused = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    except (OSError, AttributeError) as error:
        sys.stderr.write("no_new_privs could not be set: %s\n" % error)
        return
    if refused:
        sys.stderr.write("no_new_privs was refused: errno %d\n" % ctypes.get_errno())
