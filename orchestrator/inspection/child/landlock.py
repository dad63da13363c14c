"""Landlock (Linux 5.13): from now on this process reads what is named here, and writes nothing.

Structures and numbers from ``linux/landlock.h`` and ``asm-generic/unistd.h``, which are the same on
every architecture.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION = 1
PATH_BENEATH = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Version of Landlock → rights over files that it added: all are taken away."""


def read_only(paths: Iterable[str]) -> bool:
    """Leave reading of ``paths``, and of all beneath them, and nothing else of any file; needs
    ``no_new_privs``. False where the kernel has no Landlock, or it is turned off.

    Raises:
        OSError: it has, and refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(ASK_VERSION))
    if version < 1:
        return False
    handled = sum(rights for since, rights in _RIGHTS.items() if since <= version)
    attribute = struct.pack("=Q", handled)
    ruleset = _called(
        libc, CREATE_RULESET, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint(0)
    )
    try:
        for path in paths:
            _allow(libc, ruleset, path)
        _called(libc, RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)
    return True


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there cannot be read either
    try:
        rights = READ_FILE | (READ_DIR if os.path.isdir(path) else 0)
        rule = struct.pack("=Qi", rights, descriptor)
        _called(
            libc,
            ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(PATH_BENEATH),
            rule,
            ctypes.c_uint(0),
        )
    finally:
        os.close(descriptor)


def _called(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    found = libc.syscall(number, *arguments)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock, system call {number}: {os.strerror(code)}")
    return int(found)
