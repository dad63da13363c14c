"""Kernel and distribution, and versions of the drivers and libraries below the runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.facts import cuda, edgetpu, intel, jetson
from agent.system import files

VERSIONS: dict[str, Callable[[Path], str | None]] = {
    "l4t": jetson.l4t,
    "jetpack": jetson.jetpack,
    "cuda": cuda.cuda,
    "tensorrt": cuda.tensorrt,
    "nvidia_driver": cuda.driver,
    "libedgetpu": edgetpu.version,
    "intel_gpu": intel.gpu_version,
    "intel_npu": intel.npu_version,
}
"""Each returns ``None`` where the board has no such software."""


def system(root: Path, kernel: str = "") -> str:
    """``Linux 6.1.0 (Debian GNU/Linux 12 (bookworm))``; ``kernel``: used where ``/proc`` has none.

    Raises ``Unreadable``.
    """
    parts = [files.text(root / "proc/sys/kernel" / name) for name in ("ostype", "osrelease")]
    said = " ".join(filter(None, parts)) or kernel
    for line in files.text(root / "etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            named = line.partition("=")[2].strip("\"'")
            return f"{said} ({named})" if said else named
    return said
