"""What a board is, as far as installing on it depends on that; found out with a shell alone."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent import facts
from agent.device_facts import DeviceFacts
from playbooks.connection import Host
from playbooks.errors import Unfit

OLDEST_PYTHON = (3, 11)
"""What the agent itself needs; a measured child may run under an older one."""
SUPPORTED = ("x86_64", "aarch64")

_ASK = r"""
echo "machine=$(uname -m)"
echo "libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)"
[ -d /run/systemd/system ] && echo init=systemd || echo "init=$(cat /proc/1/comm)"
echo "hostname=$(uname -n)"
for p in python3 python3.14 python3.13 python3.12 python3.11 /opt/benchfarm/python/bin/python3; do
  v=$("$p" -I -c 'import platform, venv; print(platform.python_version())' 2>/dev/null) &&
    echo "python=$v $(command -v "$p")"
done
for f in etc/os-release proc/cpuinfo proc/device-tree/model sys/class/dmi/id/sys_vendor \
    sys/class/dmi/id/product_name; do
  [ -r "/$f" ] && echo "file=$f" && tr -d '\0' < "/$f" | head -c 20000 | sed 's/^/ /'
done
true
"""


@dataclass(frozen=True)
class Python:
    """An interpreter on the board that can run the agent."""

    path: str
    version: str

    @property
    def minor(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


@dataclass(frozen=True)
class Machine:
    """``glibc`` as (2, 36); ``pythons`` those that have ``venv``, the system's own first; ``facts``
    what its class is recognised by."""

    machine: str
    glibc: tuple[int, int]
    pythons: tuple[Python, ...]
    facts: DeviceFacts

    @property
    def python(self) -> Python | None:
        """The interpreter for the agent: the system's own if it is new enough."""
        fitting = [p for p in self.pythons if p.minor >= OLDEST_PYTHON]
        return fitting[0] if fitting else None


def examine(host: Host) -> Machine:
    """Ask the board what it is. Raises ``Unfit`` where no agent could ever run."""
    given, files = _parse(host.run(_ASK).out)
    machine = given["machine"][0]
    if machine not in SUPPORTED:
        raise Unfit(f"{host.name} is {machine}; agents run on {' and '.join(SUPPORTED)}")
    if given["init"] != ["systemd"]:
        raise Unfit(f"{host.name} runs {given['init'][0]}; the agent is started by systemd")
    libc = re.fullmatch(r"glibc (\d+)\.(\d+).*", given["libc"][0])
    if libc is None:
        found = given["libc"][0] or "none that says so (musl?)"
        raise Unfit(f"{host.name} has the C library {found}; the packages are built for glibc")
    pythons = [line.partition(" ") for line in given.get("python", [])]
    return Machine(
        machine=machine,
        glibc=(int(libc[1]), int(libc[2])),
        pythons=tuple(Python(path, version) for version, _, path in pythons),
        facts=_facts(machine, given["hostname"][0], files),
    )


def _parse(text: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """``key=value`` lines, and files whose lines are indented by one blank."""
    given: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if line.startswith(" "):
            files[name] += line[1:] + "\n"
        elif key == "file":
            name = value
            files[name] = ""
        else:
            given.setdefault(key, []).append(value)
    return given, files


def _facts(machine: str, hostname: str, files: dict[str, str]) -> DeviceFacts:
    """As the agent itself would read them there, from copies of the same files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return facts.remote(root, machine=machine, hostname=hostname)
