"""Sends files to a board: each arrives completely or not at all, and is not sent again."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from playbooks.errors import BoardDiskFull, StepFailed
from playbooks.target import OPT, STATE, BoardTarget
from playbooks.wheels import fetch_wheelhouse

INCOMING = ".benchfarm-incoming"
"""Folder in the login user's home; files stay there for a re-run, until the last step."""
SPARE_MIB = 64
UV_SETTINGS = "UV_OFFLINE=1 UV_NO_CACHE=1 UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never"


def deliver(target: BoardTarget, files: Sequence[Path], key: str) -> str:
    """Put ``files`` into a folder of root's that everybody may read; returns its path on the board.

    Raises:
        BoardDiskFull, ConnectionLost, StepFailed.
    """
    require_space(target, 2 * (1 + (sum(f.stat().st_size for f in files) >> 20)))
    home = target.host.output("cd && pwd")
    folder = f"{home}/{INCOMING}/{key}"
    quoted, destination = shlex.quote(folder), shlex.quote(f"{OPT}/wheels/{key}")
    target.host.run(f"umask 077; mkdir -p {quoted}")
    sums = {f.name: _sha256(f) for f in files}
    arrived = _arrived(target, quoted)
    missing = [f for f in files if arrived.get(f.name) != sums[f.name]]
    mib = sum(f.stat().st_size for f in missing) / (1 << 20)
    with target.waiting(f"{len(missing)} files, {mib:.0f} MiB, to arrive on {target.host.name}"):
        for file in missing:
            target.host.send(file, f"{folder}/{file.name}")
    if {k: v for k, v in _arrived(target, quoted).items() if k in sums} != sums:
        raise StepFailed(f"{target.host.name}: what arrived is not what was sent; run it again")
    target.script(
        f"mkdir -p {OPT}/wheels; rm -rf {destination}; mv {quoted} {destination}\n"
        f"chown -R 0:0 {destination}; chmod -R u=rwX,go=rX {destination}"
    )
    return f"{OPT}/wheels/{key}"


def install_uv(target: BoardTarget) -> str:
    """Copy ``uv`` to the board, until ``clean``; returns its folder. It installs several times
    faster than the board's pip, and needs neither pip nor ensurepip."""
    wheelhouse = fetch_wheelhouse(target.cache, target.platform, ["uv"])
    folder = f"{OPT}/wheels/uv-{wheelhouse.key}"
    if not target.host.is_true(f"test -x {folder}/bin/uv"):
        python = shlex.quote(target.python.path)
        (wheel,) = wheelhouse.wheels
        deliver(target, [wheel], f"uv-{wheelhouse.key}")
        target.script(
            f"cd {folder}; {python} -I -m zipfile -e {wheel.name} .\n"
            "mkdir bin; chmod 755 ./*.data/scripts/uv; mv ./*.data/scripts/uv bin"
        )
    return f"{folder}/bin"


def _arrived(target: BoardTarget, quoted: str) -> dict[str, str]:
    """File name → SHA-256 of the files in the folder."""
    output = target.host.output(f"cd {quoted} && sha256sum -- * 2>/dev/null")
    pairs = (line.split(None, 1) for line in output.splitlines())
    return {name.strip(): digest for digest, name in pairs}


def require_space(target: BoardTarget, mib: int) -> None:
    """Raises ``BoardDiskFull`` unless the board has ``mib`` free, and some to spare."""
    free = target.host.free_mib(OPT)
    if free < mib + SPARE_MIB:
        raise BoardDiskFull(
            f"{target.host.name} has {free} MiB free on the disk of {OPT}; this step needs "
            f"{mib + SPARE_MIB} MiB: free some, then run the same again"
        )


def clean(target: BoardTarget) -> None:
    """Remove files that only the installation needed."""
    target.host.run(f'rm -rf "$HOME/{INCOMING}"')
    # not the whole cache: runtimes keep theirs there, and the agent is already running
    target.script(f"rm -rf {OPT}/wheels {STATE}/.cache/pip {STATE}/.cache/uv")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
