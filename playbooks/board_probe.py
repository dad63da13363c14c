"""Examines a board with a shell alone: processor, C library, Pythons, and facts of its class."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent import facts
from agent.contract.device import DeviceFacts
from playbooks.errors import Unfit
from playbooks.host import Host

OLDEST_PYTHON = (3, 11)
"""For the agent; a measured child may run under an older Python."""
SUPPORTED = ("x86_64", "aarch64")

_SCRIPT = r"""
echo "machine=$(uname -m)"
echo "libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)"
[ -d /run/systemd/system ] && echo init=systemd || echo "init=$(cat /proc/1/comm)"
echo "hostname=$(uname -n)"
for p in python3 python3.14 python3.13 python3.12 python3.11 /opt/benchfarm/python/bin/python3; do
  v=$("$p" -I -c 'import platform, venv; print(platform.python_version())' 2>/dev/null) &&
    echo "python=$v $(command -v "$p")"
done
cd /
give() {
  for f; do
    [ -f "$f" ] && [ -r "$f" ] && echo "file=$f" &&
      { tr '\0' '\n' < "$f" | head -c 20000; echo; } | sed 's/^/ /'
  done
}
{
  give etc/os-release proc/sys/kernel/ostype proc/sys/kernel/osrelease proc/cpuinfo \
    sys/firmware/devicetree/base/model sys/firmware/devicetree/base/compatible \
    sys/class/dmi/id/sys_vendor sys/class/dmi/id/product_name etc/nv_tegra_release \
    usr/local/cuda/version.json usr/local/cuda/version.txt proc/driver/nvidia/version \
    proc/driver/nvidia/gpus/*/information
  dt=sys/firmware/devicetree/base  # what /proc/device-tree is a link to
  for d in $dt/host1x*/nvdla* $dt/bus@0/host1x*/nvdla*; do
    give "$d/status" "$d/compatible"
  done
  for d in sys/bus/pci/devices/*; do
    c= v=
    read -r c 2>/dev/null < "$d/class"
    read -r v 2>/dev/null < "$d/vendor"
    case "$c$v" in 0x03*|0x12*|*0x8086|*0x10de|*0x1ac1) give "$d/uevent" ;; esac
  done
  for d in sys/bus/usb/devices/*; do
    v=
    read -r v 2>/dev/null < "$d/idVendor"
    case "$v" in 1a6e|18d1) give "$d/idVendor" "$d/idProduct" "$d/speed" ;; esac
  done
  f=usr/local/cuda/include/cuda.h
  [ -r "$f" ] && echo "file=$f" && grep '^#define CUDA_VERSION ' "$f" | sed 's/^/ /'
  for f in usr/lib/*/libnvinfer.so.*.*.*; do
    [ -e "$f" ] && echo "file=$f"
  done
  if [ -r var/lib/dpkg/status ]; then
    echo file=var/lib/dpkg/status
    names='nvidia-jetpack|nvidia-l4t-core|libnvinfer[0-9]+|libedgetpu1-(std|max)'
    names="$names|libze-intel-gpu1|intel-(level-zero-gpu|level-zero-npu|opencl-icd)"
    awk -v named="^Package: ($names)\n" 'BEGIN { RS = ""; ORS = "\n\n" } $0 ~ named' \
      var/lib/dpkg/status | grep -E '^(Package:|Status:|Version:|$)' | head -c 20000 |
      sed 's/^/ /'
  fi
} 2>/dev/null | head -c 400000
true
"""


@dataclass(frozen=True)
class BoardPython:
    """An interpreter on the board that can run the agent."""

    path: str
    version: str

    @property
    def minor(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


@dataclass(frozen=True)
class BoardMachine:
    """``glibc`` is (2, 36) for 2.36; ``pythons`` have ``venv``, the system's own first; the class
    is recognised from ``facts``."""

    machine: str
    glibc: tuple[int, int]
    pythons: tuple[BoardPython, ...]
    facts: DeviceFacts

    @property
    def python(self) -> BoardPython | None:
        """The interpreter for the agent: the system's own if it is new enough."""
        fitting = [p for p in self.pythons if p.minor >= OLDEST_PYTHON]
        return fitting[0] if fitting else None


def examine(host: Host) -> BoardMachine:
    """Examine the board. Raises ``Unfit`` if no agent can run on it."""
    values, files = _parse(host.run(_SCRIPT).out)
    missing = [key for key in ("machine", "libc", "init", "hostname") if key not in values]
    if missing:
        raise Unfit(f"{host.name} did not say its {', '.join(missing)}: is `uname` there?")
    machine = values["machine"][0]
    if machine not in SUPPORTED:
        raise Unfit(f"{host.name} is {machine}; agents run on {' and '.join(SUPPORTED)}")
    if values["init"] != ["systemd"]:
        raise Unfit(f"{host.name} runs {values['init'][0]}; the agent is started by systemd")
    libc = re.fullmatch(r"glibc (\d+)\.(\d+).*", values["libc"][0])
    if libc is None:
        found = values["libc"][0] or "none that says so (musl?)"
        raise Unfit(f"{host.name} has the C library {found}; the packages are built for glibc")
    pythons = [line.partition(" ") for line in values.get("python", [])]
    return BoardMachine(
        machine=machine,
        glibc=(int(libc[1]), int(libc[2])),
        pythons=tuple(BoardPython(path, version) for version, _, path in pythons),
        facts=_facts(machine, values["hostname"][0], files),
    )


def _parse(text: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Split the script's output: ``key=value`` lines, and files, whose lines are indented by a
    blank."""
    values: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if line.startswith(" "):
            files[name] = files.get(name, "") + line[1:] + "\n"
        elif key == "file":
            name = value
            files[name] = ""
        else:
            values.setdefault(key, []).append(value)
    return values, files


def _facts(machine: str, hostname: str, files: dict[str, str]) -> DeviceFacts:
    """The facts that the agent would read on the board, from copies of the same files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for name, text in files.items():
            path = (root / name).resolve()
            if path == root or not path.is_relative_to(root):
                raise Unfit(f"{hostname} gave a file the name {name[:80]!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return facts.remote(root, machine=machine, hostname=hostname)
