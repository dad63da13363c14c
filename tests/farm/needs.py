"""What a machine needs to run a farm of boards."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .commands import CommandFailed, run

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "sudo": "sudo",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "unshare": "util-linux",
}
"""Program → its Debian package."""


def missing() -> str:
    """Why this machine cannot run boards; empty where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "boards need root on Linux"
    absent = sorted({package for tool, package in PACKAGES.items() if shutil.which(tool) is None})
    if absent:
        return f"boards need these Debian packages: {' '.join(absent)}"
    if Path("/run/systemd/system").exists():
        return "boards were never tried where systemd manages the host's own control groups"
    try:
        run("unshare", "--mount", "--net", "true")
    except CommandFailed as error:
        return f"boards need namespaces of their own: {error}"
    return ""
