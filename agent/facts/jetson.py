"""NVIDIA Jetson: its software releases, its GPU and its DLA cores.

``/etc/nv_tegra_release``: ``# R36 (release), REVISION: 4.3, GCID: …``.
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.contract.device import Accelerator
from agent.facts import packages
from agent.facts.soc import soc
from agent.system import devicetree, files
from agent.system.devicetree import is_jetson
from agent.system.errors import Unreadable

RELEASE = "etc/nv_tegra_release"

# NVIDIA's JetPack archive (developer.nvidia.com/embedded/jetpack-archive): each release's notes
# name its Jetson Linux. A release that is not listed (a minor update by apt) has no JetPack number.
_JETPACK = {
    "32.1.0": "4.2", "32.2.0": "4.2.1", "32.2.1": "4.2.2", "32.2.3": "4.2.3", "32.3.1": "4.3",
    "32.4.3": "4.4", "32.4.4": "4.4.1", "32.5.0": "4.5", "32.5.1": "4.5.1", "32.6.1": "4.6",
    "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5",
    "32.7.6": "4.6.6", "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2",
    "35.5.0": "5.1.3", "35.6.0": "5.1.4", "35.6.1": "5.1.5", "36.3.0": "6.0", "36.4.0": "6.1",
    "36.4.3": "6.2", "36.4.4": "6.2.1", "38.2.0": "7.0", "38.4.0": "7.1",
}  # fmt: skip
# Architecture from the modules' data sheets, and the chip where NVIDIA's nvgpu driver names it.
_GPUS = {
    "tegra210": "Maxwell GM20B",
    "tegra186": "Pascal GP10B",
    "tegra194": "Volta GV11B",
    "tegra234": "Ampere GA10B",
    "tegra264": "Blackwell",
}


def l4t(root: Path) -> str | None:
    """Version of Jetson Linux, ``36.4.3``; ``None``: no Jetson. Raises ``Unreadable``."""
    if not is_jetson(root):
        return None
    text = files.text(root / RELEASE)
    if text:
        return parse_release(text)
    core = packages.installed(root, "nvidia-l4t-core").get("nvidia-l4t-core")
    if core is None:
        raise Unreadable("neither /etc/nv_tegra_release nor the package nvidia-l4t-core is there")
    return core.partition("-")[0]


def parse_release(text: str) -> str:
    """Parse ``/etc/nv_tegra_release``. Raises ``Unreadable``."""
    found = re.search(r"R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3}(?:\.[0-9]{1,3})*)", text)
    if found is None:
        raise Unreadable(f"/etc/nv_tegra_release says {text.strip()[:60]!r}")
    return f"{found[1]}.{found[2]}"


def jetpack(root: Path) -> str | None:
    """Version by the package ``nvidia-jetpack``, else by the release of Jetson Linux.

    ``None``: no Jetson. Raises ``Unreadable``.
    """
    if not is_jetson(root):
        return None
    installed = packages.installed(root, "nvidia-jetpack").get("nvidia-jetpack", "")
    version = re.match(r"[0-9]+(\.[0-9]+)*", installed)
    if version:
        return version[0]
    release = l4t(root) or ""
    found = _JETPACK.get(release if release.count(".") > 1 else f"{release}.0")
    if found is None:
        raise Unreadable(
            f"the package nvidia-jetpack is not installed, and L4T {release} is in no list"
        )
    return found


def gpu(root: Path) -> list[Accelerator]:
    """The GPU, where the chip is a known Jetson's."""
    chip = soc(root) or ""
    if not is_jetson(root) or chip not in _GPUS:
        return []
    return [Accelerator("nvidia_gpu", f"{_GPUS[chip]} ({chip})", "soc")]


def dla(root: Path) -> list[Accelerator]:
    """DLA cores that the device tree has enabled."""
    found = []
    for bus in ("", "bus@0/"):  # up to JetPack 5, and later
        for node in devicetree.nodes(root, f"{bus}host1x*/nvdla*"):
            if files.text(node / "status") in ("", "ok", "okay"):
                found.append(Accelerator("dla", node.name.partition("@")[0], "soc"))
    return found
