"""Copies of boards' files: a folder that looks like ``/`` there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write each file below ``root``; ``A -> B`` as a name is a link to B, relative to A."""
    for name, text in files.items():
        path, arrow, target = name.partition(" -> ")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            (root / path).symlink_to(target)
        else:
            (root / path).write_text(text)
    return root


def tool(root: Path, name: str, script: str) -> None:
    """A vendor's tool: a shell script that prints what the real one was seen to print."""
    path = tree(root, {f"usr/bin/{name}": f"#!/bin/sh\n{script}\n"}) / "usr/bin" / name
    os.chmod(path, 0o755)


JETSON = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0"
    "nvidia,tegra234\0",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
}
