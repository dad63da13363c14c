"""Sends files to a board: whole or not at all, and not twice."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from playbooks.errors import BoardDiskFull, StepFailed
from playbooks.target import OPT, STATE, BoardTarget
from playbooks.wheels import wheelhouse

INCOMING = ".benchfarm-incoming"
"""In the login user's home; what arrived there stays for a re-run, and goes when all is done."""
SPARE_MIB = 64
UV_SETTINGS = "UV_OFFLINE=1 UV_NO_CACHE=1 UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never"


def deliver(site: BoardTarget, files: Sequence[Path], key: str) -> str:
    """Put ``files`` into a folder of root's that everybody may read; returns its path there.

    Raises:
        DiskFull, ConnectionLost.
    """
    need_space(site, 2 * (1 + (sum(f.stat().st_size for f in files) >> 20)))
    home = site.host.ask("cd && pwd")
    folder = f"{home}/{INCOMING}/{key}"
    quoted, target = shlex.quote(folder), shlex.quote(f"{OPT}/wheels/{key}")
    site.host.run(f"umask 077; mkdir -p {quoted}")
    sums = {f.name: _sha256(f) for f in files}
    there = _arrived(site, quoted)
    for file in files:
        if there.get(file.name) != sums[file.name]:
            site.host.send(file, f"{folder}/{file.name}")
    if {k: v for k, v in _arrived(site, quoted).items() if k in sums} != sums:
        raise StepFailed(f"{site.host.name}: what arrived is not what was sent; run it again")
    site.script(
        f"mkdir -p {OPT}/wheels; rm -rf {target}; mv {quoted} {target}\n"
        f"chown -R 0:0 {target}; chmod -R u=rwX,go=rX {target}"
    )
    return f"{OPT}/wheels/{key}"


def installer(site: BoardTarget) -> str:
    """The folder of a ``uv`` on the board, there until ``clear``. It installs several times faster
    than pip there, and needs neither pip nor ensurepip."""
    house = wheelhouse(site.cache, site.platform, ["uv"])
    folder = f"{OPT}/wheels/uv-{house.key}"
    if not site.host.is_true(f"test -x {folder}/bin/uv"):
        python = shlex.quote(site.python.path)
        (wheel,) = house.wheels
        deliver(site, [wheel], f"uv-{house.key}")
        site.script(
            f"cd {folder}; {python} -I -m zipfile -e {wheel.name} .\n"
            "mkdir bin; chmod 755 ./*.data/scripts/uv; mv ./*.data/scripts/uv bin"
        )
    return f"{folder}/bin"


def _arrived(site: BoardTarget, quoted: str) -> dict[str, str]:
    """Name → SHA-256 of what lies in the folder."""
    said = site.host.ask(f"cd {quoted} && sha256sum -- * 2>/dev/null")
    pairs = (line.split(None, 1) for line in said.splitlines())
    return {name.strip(): digest for digest, name in pairs}


def need_space(site: BoardTarget, mib: int) -> None:
    """Raises ``BoardDiskFull`` unless the board has so much to spare."""
    free = site.host.free_mib(OPT)
    if free < mib + SPARE_MIB:
        raise BoardDiskFull(
            f"{site.host.name} has {free} MiB free on the disk of {OPT}; this step needs "
            f"{mib + SPARE_MIB} MiB: free some, then run the same again"
        )


def clear(site: BoardTarget) -> None:
    """Take away what only the installation needed."""
    site.host.run(f'rm -rf "$HOME/{INCOMING}"')
    # beside these caches the runtimes keep theirs, and the agent is at work by now
    site.script(f"rm -rf {OPT}/wheels {STATE}/.cache/pip {STATE}/.cache/uv")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
