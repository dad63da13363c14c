"""Source trees of benchfarm, each installed on its own: the previous release beside this one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from pathlib import Path

from support.need import need

ROOT = Path(__file__).parents[2]
PREVIOUS = "737204918199056d1a93ae4096010be79caee148"
"""The commit of the release before this one."""
PACKAGES = ("agent", "orchestrator", "playbooks", "inventory")
PROGRAMS = {"benchfarm": "orchestrator.cli", "benchfarm-agent": "agent.cli"}


@dataclass(frozen=True)
class Release:
    """The programs of one source tree."""

    benchfarm: Path
    agent: Path


def previous_tree(folder: Path) -> Path:
    """The previous release's packages below ``folder``, from this clone's history. Skips the test
    where the history does not reach back to it (``BENCHFARM_REQUIRE=history`` fails it)."""
    git = shutil.which("git")
    need("history", git is not None, "no git on the path")
    archive, tree = folder / "previous.tar", folder / "previous"
    words = [str(git), "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "archive"]
    words += ["-o", str(archive), PREVIOUS, *PACKAGES]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    why = f"this clone does not hold commit {PREVIOUS}: {ended.stderr.strip()}"
    need("history", ended.returncode == 0, why)
    with tarfile.open(archive) as tar:
        tar.extractall(tree, filter="data")
    return tree


def installed(tree: Path, environment: Path) -> Release:
    """``tree`` in a new virtual environment with this interpreter's third-party packages.

    The environment's path lists the tree before the packages, so that children that ignore
    ``PYTHONPATH`` (``python -I``) import this tree too; the ``.pth`` file of an editable install is
    not read in a folder that is only listed."""
    words = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(words, check=True, timeout=120)
    site_packages = next(environment.glob("lib/python*/site-packages"))
    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site_packages / "release.pth").write_text("\n".join([str(tree), *folders, ""]))
    for program, module in PROGRAMS.items():
        path = environment / "bin" / program
        python = environment / "bin" / "python"
        path.write_text(f"#!{python}\nfrom {module} import main\n\nmain()\n")
        path.chmod(0o755)
    return Release(environment / "bin" / "benchfarm", environment / "bin" / "benchfarm-agent")
