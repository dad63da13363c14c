"""A virtual machine with its own kernel, for tests of what an nspawn board shares with this host.

It has Debian's cloud kernel, and the boards' amd64 tree as its initramfs, so it needs no disk, no
driver and no network; it is emulated, so it needs no KVM. Its only output is its console.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from . import needs
from .cache import cache
from .commands import run
from .tree import MIRROR, NATIVE, SUITE, tree

QEMU = "qemu-system-x86_64"
KERNEL = "linux-image-cloud-amd64"
MEMORY_MIB = 768
FETCH_LIMIT_S = 600.0
LEFT_OUT = frozenset(("usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/zoneinfo"))


@dataclass(frozen=True)
class Entry:
    """A file, or a folder by ``mode``, that replaces the tree's."""

    path: str
    content: bytes = b""
    mode: int = stat.S_IFREG | 0o644
    owner: int = 0


def missing() -> str:
    """Why this machine can run none; empty where it can."""
    if shutil.which(QEMU) is None:
        return "virtual machines need the Debian package qemu-system-x86"
    return needs.missing()


def console_of(entries: Iterable[Entry], *, options: str = "", limit_s: float) -> str:
    """Boot with ``entries`` over the boards' tree until it switches itself off; its console's
    output. Raises ``subprocess.TimeoutExpired`` with the output so far."""
    kernel, base = _kernel(), _archive()
    with tempfile.TemporaryDirectory(prefix="benchfarm-vm-") as folder:
        initrd = Path(folder) / "initrd"
        with initrd.open("wb") as out:
            with base.open("rb") as file:
                shutil.copyfileobj(file, out)
            _write(out, entries)
        words = (
            *(QEMU, "-accel", "tcg,thread=multi", "-m", str(MEMORY_MIB), "-smp", "2"),
            *("-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
            *("-kernel", str(kernel), "-initrd", str(initrd), "-append"),
            # no output of the kernel or of systemd between the lines
            "console=ttyS0 rdinit=/lib/systemd/systemd systemd.show_status=0 quiet loglevel=1 "
            f"panic=-1 {options}",
        )
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=True,
        ).stdout


def _kernel() -> Path:
    """The kernel's image: the cached one, else downloaded."""
    kept = cache() / f"{KERNEL}-{SUITE}"
    with (cache() / "kernel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            temporary = Path(tempfile.mkdtemp(prefix="tmp-kernel-", dir=cache()))
            try:
                words = ("mmdebstrap", "--quiet", "--variant=extract", f"--include={KERNEL}")
                run(*words, SUITE, temporary / "root", MIRROR, limit_s=FETCH_LIMIT_S)
                (image,) = (temporary / "root/boot").glob("vmlinuz-*")
                os.rename(image, kept)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return kept


def _archive() -> Path:
    """The boards' tree as a cached cpio archive; the kernel unpacks concatenated archives."""
    root = tree(NATIVE)
    kept = cache() / f"{root.name}.cpio"
    with (cache() / "cpio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            temporary = kept.with_suffix(".tmp")
            with temporary.open("wb") as out:
                _write(out, _entries(root))
            os.rename(temporary, kept)
    return kept


def _entries(root: Path) -> Iterable[Entry]:
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if str(here / name) not in LEFT_OUT]
        for name in (*folders, *files):
            path = Path(folder, name)
            known = path.lstat()
            content = b""
            if stat.S_ISLNK(known.st_mode):
                content = os.readlink(path).encode()
            elif stat.S_ISREG(known.st_mode):
                content = path.read_bytes()
            if not stat.S_ISCHR(known.st_mode):  # the kernel makes /dev itself
                yield Entry(str(here / name), content, known.st_mode, known.st_uid)


def _write(out: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write cpio's format ``newc`` (cpio(5)); a file's gid is its uid."""
    for number, entry in enumerate(chain(entries, [Entry("TRAILER!!!", mode=0)]), start=1):
        name = entry.path.encode() + b"\0"
        numbers = (number, entry.mode, entry.owner, entry.owner, 1, 0, len(entry.content))
        fields = (*numbers, 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        for part in (head, entry.content):
            out.write(part + b"\0" * (-len(part) % 4))
