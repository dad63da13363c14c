"""What a child gives up before it reads a model: any way to more privileges than it has."""

from __future__ import annotations

import ctypes
import sys

PR_SET_NO_NEW_PRIVS = 38
"""prctl(2), Linux 3.5: from now on no program that is started gains rights by its setuid bit or its
file capabilities, and no child of ours can undo it."""


def give_up_privileges() -> None:
    """A system without it goes on: it is one wall of several."""
    try:
        # variadic: without these types the fifth argument would be what lay in its register
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl.argtypes = (ctypes.c_int, *4 * (ctypes.c_ulong,))
        refused = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    except (OSError, AttributeError) as error:
        sys.stderr.write("no_new_privs could not be set: %s\n" % error)
        return
    if refused:
        sys.stderr.write("no_new_privs was refused: errno %d\n" % ctypes.get_errno())
