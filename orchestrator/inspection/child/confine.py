"""Confines the child process before it opens an uploaded file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.privileges import give_up_privileges
from orchestrator.domain.file_inspection import NO_LANDLOCK, NO_SECCOMP
from orchestrator.inspection.child import landlock, rlimits, seccomp

_ROOT = Path(__file__).resolve().parents[3]
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")


def confine(path: str, wall_s: float, memory_mib: int) -> None:
    """From now on the process can read only ``path`` and the interpreter's own packages. If the
    kernel lacks Landlock or seccomp, the rest still applies, and stderr says so.

    Raises:
        OSError: there is no such file, or the kernel refuses a supported call.
    """
    sys.dont_write_bytecode = True
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's BLAS starts threads when it is loaded
    size = os.stat(path).st_size
    give_up_privileges()
    rlimits.limit(wall_s, memory_mib, size)
    if not landlock.read_only([path, *_packages(), *_libraries()]):
        sys.stderr.write(f"{NO_LANDLOCK}\n")
    if not seccomp.refuse_calls():
        sys.stderr.write(f"{NO_SECCOMP}\n")


def _packages() -> list[str]:
    """The folders of modules. In a source tree only its packages: a farm's home may be beside
    them."""
    places = [place for place in sys.path if place]
    if not (_ROOT / "pyproject.toml").exists():
        return places
    others = [place for place in places if Path(place).resolve() != _ROOT]
    return [*others, str(_ROOT / "agent"), str(_ROOT / "orchestrator")]


def _libraries() -> list[str]:
    configured = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    beside = [os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix)]
    return [*_LIBRARIES, *beside, *filter(None, configured)]
