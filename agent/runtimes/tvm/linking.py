"""Link what TVM compiled, for this architecture or another, and read a library's architecture."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from agent.contract.failures import BadModel, RuntimeMissing, Unsupported
from agent.runtimes.converter import missing_modules

GLIBC = "2.27"
"""Version to link against: that of Ubuntu 18.04, so it runs on JetPack 4 and everything newer."""
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""``e_machine`` of elf.h → the name that ``uname -m`` uses."""
_ALIASES = {"arm64": "aarch64", "amd64": "x86_64", "armv7l": "arm", "i686": "i386"}


def linker() -> Any:
    """A function ``link(built, path)``: with the system's C++ compiler, else with ``ziglang``.

    Raises:
        RuntimeMissing: neither is installed.
    """
    from tvm.support import cc

    if any(shutil.which(name) for name in ("g++", "clang++", "c++", "gcc", "clang", "cc")):
        return lambda built, path: built.export_library(str(path))
    if not missing_modules(("ziglang",)):
        zig = cc.cross_compiler(
            lambda output, objects, options=None, **_: cc.create_shared(
                output, objects, options, cc=zig_script("c++")
            ),
            output_format="so",
        )
        return lambda built, path: built.export_library(str(path), fcompile=zig)
    raise RuntimeMissing(
        "linking a TVM library needs a C++ compiler, and there is none",
        "install g++, or pip install ziglang",
    )


def cross_linker(machine: str) -> Any:
    """A function ``link(built, path)`` for another architecture: with the distribution's
    cross-compiler, else with ``ziglang``, which has a linker and the C library's symbols for all.

    Raises:
        RuntimeMissing: neither is installed.
    """
    from tvm.support import cc

    compiler = shutil.which("%s-linux-gnu-gcc" % machine) or ""
    if not compiler:
        if missing_modules(("ziglang",)):
            raise RuntimeMissing(
                "linking a library for %s needs a cross-compiler, and there is none" % machine,
                "install gcc-%s-linux-gnu, or pip install ziglang (400 MiB)" % machine,
            )
        compiler = zig_script("cc -target %s-linux-gnu.%s" % (machine, GLIBC))
    link = cc.cross_compiler(
        lambda output, objects, options=None, **_: cc.create_shared(
            output, objects, options, cc=compiler
        ),
        output_format="so",
    )
    return lambda built, path: built.export_library(str(path), fcompile=link)


def zig_script(words: str) -> str:
    """A script that runs zig with ``words``: TVM takes a compiler as one name without arguments."""
    path = os.path.join(tempfile.gettempdir(), "zig-cc")
    with open(path, "w", encoding="utf-8") as file:
        file.write('#!/bin/sh\nexec "%s" -m ziglang %s "$@"\n' % (sys.executable, words))
    os.chmod(path, 0o700)
    return path


def require_own_machine(library: Path) -> None:
    """Check the library's architecture: the loader's own message would not name it.

    Raises:
        Unsupported: it is for another one than this machine's.
        BadModel: it cannot be read.
    """
    found = machine_of(library)
    here = _ALIASES.get(platform.machine().lower(), platform.machine())
    if found and found != here:
        raise Unsupported(
            "%s was compiled for %s and this machine is %s: it runs on a board of that architecture"
            % (library.name, found, here)
        )


def machine_of(library: Path) -> str:
    """The architecture in an ELF file's header; empty where it is no ELF file."""
    try:
        with open(str(library), "rb") as file:
            head = file.read(20)
    except OSError as error:
        raise BadModel("%s cannot be read: %s" % (library.name, error)) from error
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return ""
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return _MACHINES.get(number, "ELF machine %d" % number)
