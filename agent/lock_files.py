"""Lock files: the versions that were tested together, which new installations are held to.

The agent's stands beside this file, a runtime's in its folder; `make lock` writes them. They are
constraints: they bring nothing in by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

SUFFIX = ".lock"
AGENT = Path(__file__).with_name("requirements" + SUFFIX)


def read(file: Path) -> list[Requirement]:
    """Every ``name==version`` of a lock file, with its marker and without its hashes."""
    lines = file.read_text("utf-8").splitlines()
    named = [line for line in lines if line[:1].isalnum()]
    return [Requirement(line.removesuffix("\\").strip()) for line in named]


def pins(file: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What a lock file says for a machine that markers see as ``environment``."""
    return tuple(
        f"{r.name}{r.specifier}"
        for r in read(file)
        if r.marker is None or r.marker.evaluate(dict(environment))
    )
