"""A bootable root tree for each architecture: built once, the lower layer of all boards' disks.

mmdebstrap's ``extract`` runs no maintainer script, so it is quick and can build for a foreign
architecture; the files that those scripts would have made are copied from this host.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from . import emulation
from .cache import cache
from .commands import run

SUITE = "bookworm"
NATIVE = "amd64"
MIRROR = "http://deb.debian.org/debian"
BUILD_LIMIT_S = 900.0
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo"),
    *("python3", "python3-venv", "iproute2", "procps", "libgomp1", "libstdc++6", "tzdata"),
    *("ca-certificates", "login", "passwd", "bash", "dash", "coreutils", "util-linux", "mount"),
    *("grep", "sed", "tar", "gzip", "findutils", "diffutils", "hostname", "mawk", "perl-base"),
    *("base-files", "base-passwd", "debianutils", "dpkg", "libc-bin", "init-system-helpers"),
)
FROM_HOST = (
    *("nsswitch.conf", "shells", "ssl", "ssh", "pam.d"),
    *("login.defs", "security", "sudoers", "skel"),
)
SYSTEM_IDS = range(1000)


def tree(architecture: str) -> Path:
    """The tree of ``amd64`` or ``arm64``: the cached one, else a new one."""
    folder = cache()
    built = folder / f"{architecture}-{_key(architecture)}"
    with (folder / f"{architecture}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            _build(architecture, built)
    return built


def _key(architecture: str) -> str:
    """A hash of the architecture and of this file: another one means another tree."""
    return hashlib.sha256(f"{architecture}{Path(__file__).read_text()}".encode()).hexdigest()[:12]


def _build(architecture: str, built: Path) -> None:
    """Build it in a temporary folder, which is renamed when it is complete."""
    temporary = Path(tempfile.mkdtemp(prefix=f"tmp-{architecture}-", dir=built.parent))
    try:
        root = temporary / "root"
        run(
            *("mmdebstrap", "--quiet", "--variant=extract", f"--arch={architecture}"),
            *(f"--include={','.join(PACKAGES)}", SUITE, root, MIRROR),
            limit_s=BUILD_LIMIT_S,
        )
        _configure(root)
        _compile(root)
        if architecture != NATIVE:
            emulation.configure(root)
        os.rename(root, built)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _configure(root: Path) -> None:
    """Do what maintainer scripts would have done, as far as a board needs it."""
    for name in FROM_HOST:
        source, target = Path("/etc", name), root / "etc" / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    for secret in (root / "etc/ssh").glob("ssh_host_*"):
        secret.unlink()
    _copy_system_accounts(root)
    for name in ("opt", "mnt", "srv", "var/local", "var/mail"):
        (root / name).mkdir(exist_ok=True)
    (root / "etc/machine-id").write_text("")
    (root / "etc/resolv.conf").write_text("")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")


def _compile(root: Path) -> None:
    """Compile the standard library, as an installed system has it. Bytecode depends on the version
    of Python, which must be this one's, and not on the architecture."""
    library = root / f"usr/lib/python3.{sys.version_info.minor}"
    if library.is_dir():
        run(
            *(sys.executable, "-I", "-m", "compileall", "-q", "-s", root, "-p", "/", library),
            limit_s=BUILD_LIMIT_S,
        )


def _copy_system_accounts(root: Path) -> None:
    etc = Path("/etc")
    for names, hashes in (("passwd", "shadow"), ("group", "gshadow")):
        lines = [line for line in (etc / names).read_text().splitlines() if _is_system(line)]
        kept = {line.split(":")[0] for line in lines}
        (root / "etc" / names).write_text("".join(f"{line}\n" for line in lines))
        locked = (
            _locked(line) for line in (etc / hashes).read_text().splitlines()
            if line.split(":")[0] in kept
        )  # fmt: skip
        (root / "etc" / hashes).write_text("".join(f"{line}\n" for line in locked))
        (root / "etc" / hashes).chmod(0o640)


def _is_system(line: str) -> bool:
    name, _, number, *_ = line.split(":")
    return int(number) in SYSTEM_IDS or name in ("nobody", "nogroup")


def _locked(line: str) -> str:
    """The line without the host's password."""
    name, _, *rest = line.split(":")
    return ":".join([name, "*", *rest])
