"""Wheelhouses: packages for a board are fetched on this machine, for its processor and Python.

So a board needs no internet, no compiler and no pip, and equal boards get equal packages.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

import agent
from agent import lock_files
from playbooks.errors import WheelsMissing

DISTRIBUTION = "benchfarm"
NOT_ON_BOARDS = frozenset({"numpy"})
"""Needed by the measured child alone, which runs in a runtime environment with its own numpy."""
OLDEST_GLIBC_MINOR = 17
LIMIT_S = 900.0
_ROUNDS = 10
_SHIPPED = (".py", lock_files.SUFFIX)


@dataclass(frozen=True)
class Platform:
    """The platform that wheels must fit. ``python`` is the full version, because markers may depend
    on its patch number."""

    machine: str
    python: str
    glibc: tuple[int, int]

    @property
    def minor(self) -> str:
        return ".".join(self.python.split(".")[:2])

    @property
    def flags(self) -> list[str]:
        """pip's options for this platform."""
        tag = "cp" + self.minor.replace(".", "")
        names = [f"manylinux2014_{self.machine}", f"linux_{self.machine}"]
        oldest = min(OLDEST_GLIBC_MINOR, self.glibc[1])
        names += [f"manylinux_2_{n}_{self.machine}" for n in range(oldest, self.glibc[1] + 1)]
        return [
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", self.minor),
            *(word for abi in (tag, "abi3", "none") for word in ("--abi", abi)),
            *(word for name in names for word in ("--platform", name)),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The environment for requirements' markers; pip itself takes that of its own
        interpreter."""
        return {
            "python_version": self.minor,
            "python_full_version": self.python,
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "platform_python_implementation": "CPython",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "extra": "",
        }


@dataclass(frozen=True)
class Wheelhouse:
    """A folder of wheels that are installed together; ``key`` is a hash of its content."""

    folder: Path
    requirements: tuple[str, ...]

    @property
    def wheels(self) -> list[Path]:
        return sorted(self.folder.glob("*.whl"))

    @property
    def key(self) -> str:
        named = "\n".join([*(w.name for w in self.wheels), *self.requirements])
        return hashlib.sha256(named.encode()).hexdigest()[:12]

    @property
    def mib(self) -> int:
        """Size of the wheels, in MiB, rounded up."""
        return 1 + (sum(w.stat().st_size for w in self.wheels) >> 20)


def fetch_agent_wheelhouse(cache: Path, platform: Platform) -> tuple[Wheelhouse, Path]:
    """The packages that the agent needs, and its own wheel.

    Raises:
        WheelsMissing: the package index does not have them.
    """
    constraints = lock_files.pins(lock_files.AGENT, platform.environment)
    return fetch_wheelhouse(
        cache, platform, agent_requirements(platform), constraints
    ), agent_wheel(cache)


def agent_requirements(platform: Platform) -> list[str]:
    """The agent's requirements on such a platform."""
    declared = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    return sorted(
        str(r)
        for r in declared
        if r.name not in NOT_ON_BOARDS
        and (r.marker is None or r.marker.evaluate(platform.environment))
    )


def fetch_wheelhouse(
    cache: Path, platform: Platform, requirements: Sequence[str], constraints: Sequence[str] = ()
) -> Wheelhouse:
    """Wheels of ``requirements`` and their dependencies, from ``cache`` or else fetched.
    ``constraints`` pin versions and add no packages (pip's ``--constraint``).

    Raises:
        WheelsMissing: the package index does not have them.
    """
    wanted = tuple(sorted(requirements))
    text = "\n".join(
        [platform.machine, platform.python, str(platform.glibc), *wanted, *constraints]
    )
    name = (
        f"{platform.machine}-py{platform.python}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    )
    cache.mkdir(parents=True, exist_ok=True)
    whole = cache / name
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            temporary = Path(tempfile.mkdtemp(prefix="tmp-", dir=cache))
            try:
                _fetch(temporary, platform, wanted, constraints)
                os.rename(temporary, whole)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return Wheelhouse(whole, wanted)


def _fetch(
    folder: Path, platform: Platform, requirements: Iterable[str], constraints: Sequence[str]
) -> None:
    """Fetch, then also what only the target's markers require, until nothing is missing."""
    missing = list(requirements)
    for _ in range(_ROUNDS):
        _download(folder, platform, missing, constraints)
        missing = _unmet(folder, platform)
        if not missing:
            return
    raise WheelsMissing(f"these wheels ask for one another without end: {', '.join(missing)}")


def _download(
    folder: Path, platform: Platform, requirements: Sequence[str], constraints: Sequence[str]
) -> None:
    constraints_file = folder / "constraints.txt"
    constraints_file.write_text("".join(f"{pin}\n" for pin in constraints), "utf-8")
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    command += [*platform.flags, "--find-links", str(folder), "--constraint", str(constraints_file)]
    command += requirements
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise WheelsMissing(f"the package index was not done within {LIMIT_S:.0f} s") from None
    if ended.returncode == 0:
        return
    if "No module named pip" in ended.stderr:
        raise WheelsMissing(
            f"{sys.executable} has no pip, which fetches the packages for boards: "
            "install it there, e.g. `uv pip install pip`"
        )
    errors = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
    message = re.sub(r"://[^/\s@]+@", "://", "; ".join(errors[-3:]) or ended.stderr[-300:])
    raise WheelsMissing(
        f"no packages for Python {platform.minor} on {platform.machine} "
        f"(glibc {platform.glibc[0]}.{platform.glibc[1]}): {message}"
    )


def _unmet(folder: Path, platform: Platform) -> list[str]:
    """Requirements, on that platform, of the wheels in ``folder`` that no wheel there meets."""
    available = {parse_wheel_filename(path.name)[0] for path in folder.glob("*.whl")}
    unmet = set()
    for path in folder.glob("*.whl"):
        for text in _requirements_of(path):
            requirement = Requirement(text)
            marker = requirement.marker
            wanted = marker is None or marker.evaluate(platform.environment)
            if wanted and canonicalize_name(requirement.name) not in available:
                requirement.marker = None
                unmet.add(str(requirement))
    return sorted(unmet)


def _requirements_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode("utf-8")
    return HeaderParser().parsestr(text).get_all("Requires-Dist") or []


def agent_wheel(cache: Path) -> Path:
    """A wheel of the running ``agent`` package, in a folder named by its content; built if missing.

    It is written directly: a checkout and an installed package give the same wheel, and the
    controller needs no build tool.
    """
    source = Path(agent.__file__).parent
    files = {
        f"agent/{path.relative_to(source)}": path.read_bytes()
        for path in sorted(p for p in source.rglob("*") if p.suffix in _SHIPPED)
    }
    info = f"{DISTRIBUTION}-{agent.__version__}.dist-info"
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: benchfarm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nbenchfarm-agent = agent.cli:main\n"
    digest = hashlib.sha256(b"".join(n.encode() + b for n, b in files.items())).hexdigest()[:12]
    folder = cache / f"agent-{digest}"
    wheel = folder / f"{DISTRIBUTION}-{agent.__version__}-py3-none-any.whl"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:  # it may be in use for another board
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wheel.exists():
            folder.mkdir(exist_ok=True)
            _write_wheel(wheel, files, info)
    return wheel


def _metadata() -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {DISTRIBUTION}", f"Version: {agent.__version__}"]
    for text in metadata.requires(DISTRIBUTION) or ():
        requirement = Requirement(text)
        if requirement.name not in NOT_ON_BOARDS and "extra" not in str(requirement.marker):
            lines.append(f"Requires-Dist: {requirement}")
    return "\n".join(lines) + "\n"


def _write_wheel(path: Path, files: dict[str, bytes], info: str) -> None:
    record = "".join(f"{name},{_hash(data)},{len(data)}\n" for name, data in files.items())
    files = {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    os.close(handle)
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    os.replace(temporary, path)


def _hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"
