"""Landlock (Linux 5.13): limits this process to reading the given paths.

Structures and numbers from ``linux/landlock.h`` and ``asm-generic/unistd.h``, which are the same on
every architecture.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
PATH_BENEATH = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Landlock ABI version → access rights over files that it added; all are denied."""


def read_only(paths: Iterable[str]) -> bool:
    """Allow only reading of ``paths`` and of everything below them; needs ``no_new_privs``. Returns
    False if the kernel has no Landlock or it is disabled.

    Raises:
        OSError: a system call of Landlock failed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(VERSION_FLAG))
    if version < 1:
        return False
    handled = sum(rights for since, rights in _RIGHTS.items() if since <= version)
    attribute = struct.pack("=Q", handled)
    ruleset = _system_call(
        libc, CREATE_RULESET, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint(0)
    )
    try:
        for path in paths:
            _allow(libc, ruleset, path)
        _system_call(libc, RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)
    return True


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a missing path needs no rule
    try:
        rights = READ_FILE | (READ_DIR if os.path.isdir(path) else 0)
        rule = struct.pack("=Qi", rights, descriptor)
        _system_call(
            libc,
            ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(PATH_BENEATH),
            rule,
            ctypes.c_uint(0),
        )
    finally:
        os.close(descriptor)


def _system_call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    result = libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock, system call {number}: {os.strerror(code)}")
    return int(result)
