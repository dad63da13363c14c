"""Asks an advisory service about every locked version: `make audit`, AUDIT_ARGS="-s osv" for OSV.

Exit code 1: a version with a known hole. 3: the service did not answer for all of them, so that
nothing can be said of the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent import lock_files

ROOT = Path(__file__).parent.parent
HOLES, UNANSWERED = 1, 3


def versions() -> list[list[str]]:
    """Every locked version once, for every machine: markers are left out. In lists of which none
    names a package twice, for pip-audit refuses that."""
    files = [*ROOT.glob("requirements/*.lock"), *ROOT.glob("agent/**/*.lock")]
    by_name: dict[str, list[str]] = {}
    for found in (requirement for file in sorted(files) for requirement in lock_files.read(file)):
        pins = by_name.setdefault(found.name, [])
        pin = f"{found.name}{found.specifier}"
        if pin not in pins:
            pins.append(pin)
    most = max(len(pins) for pins in by_name.values())
    return [[pins[n] for pins in by_name.values() if n < len(pins)] for n in range(most)]


def main(options: Sequence[str]) -> int:
    asked: list[dict[str, Any]] = []
    for pins in versions():
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(pins))
            file.flush()
            words = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-f", "json"]
            words += ["--progress-spinner", "off", "-r", file.name, *options]
            ended = subprocess.run(words, capture_output=True, text=True, check=False)
        try:
            asked += json.loads(ended.stdout)["dependencies"]
        except ValueError:
            said = (ended.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
            print(f"nothing was audited: no advisory service answers: {said}", file=sys.stderr)
            return UNANSWERED
    return report(asked)


def report(asked: Sequence[dict[str, Any]]) -> int:
    """Tells of pip-audit's answers; returns the exit code."""
    unknown = [found["name"] for found in asked if "skip_reason" in found]
    if len(unknown) == len(asked):
        print(
            f"nothing was audited: the advisory service knows none of {len(unknown)} packages, as "
            "one that is not there: run this where pypi.org answers, or with AUDIT_ARGS='-s osv'",
            file=sys.stderr,
        )
        return UNANSWERED
    for found in asked:
        for hole in found.get("vulns", ()):
            fixed = ", ".join(hole["fix_versions"]) or "no version"
            print(f"{found['name']} {found['version']}: {hole['id']}, fixed in {fixed}")
    if any(found.get("vulns") for found in asked):
        return HOLES
    if unknown:
        print(f"not audited, for nobody knows them: {', '.join(unknown)}", file=sys.stderr)
        return UNANSWERED
    print(f"{len(asked)} locked versions, no known hole")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
