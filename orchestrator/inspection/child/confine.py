"""What the child gives up before it opens a file that somebody sent."""

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
    """From now on nothing but ``path`` and the interpreter's own packages is read. A kernel that
    lacks one of the walls goes on with the others, and it is said on stderr.

    Raises:
        OSError: there is no such file, or the kernel refuses what it has.
    """
    sys.dont_write_bytecode = True
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's library starts threads when it is loaded
    size = os.stat(path).st_size
    give_up_privileges()
    rlimits.limit(wall_s, memory_mib, size)
    if not landlock.read_only([path, *_packages(), *_libraries()]):
        sys.stderr.write(f"{NO_LANDLOCK}\n")
    if not seccomp.refuse_calls():
        sys.stderr.write(f"{NO_SECCOMP}\n")


def _packages() -> list[str]:
    """Where modules come from. Of a source tree its packages alone: a farm may live in it."""
    places = [place for place in sys.path if place]
    if not (_ROOT / "pyproject.toml").exists():
        return places
    others = [place for place in places if Path(place).resolve() != _ROOT]
    return [*others, str(_ROOT / "agent"), str(_ROOT / "orchestrator")]


def _libraries() -> list[str]:
    told = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    beside = [os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix)]
    return [*_LIBRARIES, *beside, *filter(None, told)]
