"""Lock files: the versions that were tested together, which new installations are held to.

One for the agent, one for each runtime environment; `make lock` writes them. They are constraints:
they bring nothing in by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

AGENT = "agent"
SUFFIX = ".lock"


def path(name: str) -> Path:
    """The file of that name, for ``pip install -c`` and ``uv pip install -c``."""
    return Path(__file__).with_name(name + SUFFIX)


def read(file: Path) -> list[Requirement]:
    """Every ``name==version`` of a lock file, with its marker and without its hashes."""
    lines = file.read_text("utf-8").splitlines()
    named = [line for line in lines if line[:1].isalnum()]
    return [Requirement(line.removesuffix("\\").strip()) for line in named]


def pins(name: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What a lock file says for a machine that markers see as ``environment``."""
    return tuple(
        f"{r.name}{r.specifier}"
        for r in read(path(name))
        if r.marker is None or r.marker.evaluate(dict(environment))
    )
