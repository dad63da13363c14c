"""Programs of another architecture: a recent qemu, registered with the kernel.

Debian 12's own qemu (7.2) crashes in onnxruntime, so that of its backports is unpacked beside the
trees; the machine's own packages stay as they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from .cache import cache
from .commands import run

BINFMT = Path("/proc/sys/fs/binfmt_misc")
ENTRY = BINFMT / "benchfarm-aarch64"
SOURCES = (
    "deb http://deb.debian.org/debian bookworm main",
    "deb http://deb.debian.org/debian bookworm-backports main",
)
CPU = "cortex-a72"
"""Twice as fast under emulation as ``max``."""
# ELF, 64 bits, little endian, executable or shared, machine 183
_MAGIC = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
_MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
# preserve argv[0], open the binary, the program's credentials (sudo), and load qemu only once
_FLAGS = "POCF"


def start() -> None:
    """Register the emulator for aarch64 programs, unless one is registered."""
    if not (BINFMT / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT)
    if not ENTRY.exists():
        (BINFMT / "register").write_text(f":{ENTRY.name}:M::{_MAGIC}:{_MASK}:{_qemu()}:{_FLAGS}")


def stop() -> None:
    """Remove the registration."""
    if ENTRY.exists():
        ENTRY.write_text("-1")


def configure(root: Path) -> None:
    """Let programs in a tree be emulated as ``CPU``."""
    (root / "etc/environment").write_text(f"QEMU_CPU={CPU}\n")
    settings = root / "etc/systemd/system.conf.d"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "qemu.conf").write_text(f"[Manager]\nDefaultEnvironment=QEMU_CPU={CPU}\n")


def _qemu() -> Path:
    """The emulator: the cached one, else unpacked from its package."""
    key = hashlib.sha256("".join(SOURCES).encode()).hexdigest()[:12]
    kept = cache() / f"qemu-{key}"
    with (cache() / "qemu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            temporary = Path(tempfile.mkdtemp(prefix="tmp-qemu-", dir=cache()))
            try:
                package = "--include=qemu-user-static/bookworm-backports"
                words = ("mmdebstrap", "--quiet", "--variant=extract", package)
                run(*words, "", temporary / "root", *SOURCES, limit_s=600.0)
                os.rename(temporary / "root", kept)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return kept / "usr/bin/qemu-aarch64"
