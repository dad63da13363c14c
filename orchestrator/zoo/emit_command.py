"""The emitters' command line: writes one architecture of the catalogue to one file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.zoo import catalogue
from orchestrator.zoo.errors import ZooError
from orchestrator.zoo.network import Network

Export = Callable[[Network, Path, int], object]


def emit(name: str, writes: str, export: Export, arguments: Sequence[str] | None = None) -> int:
    """Parse ``arguments`` (default: the process's own) and export; returns 0, or 2 for a wrong
    request. ``name`` is the emitter's module; ``export`` takes a network, a file, a batch size."""
    parser = argparse.ArgumentParser(prog=f"python -m orchestrator.zoo.{name}")
    parser.add_argument("name", help="an architecture of the zoo")
    parser.add_argument("out", type=Path, help=f"the {writes} file to write")
    parser.add_argument("--batch", type=int, default=1, help="fixed batch size (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of untrained weights (default 0)")
    options = parser.parse_args(arguments)
    try:
        export(catalogue.load(options.name, options.seed), options.out, options.batch)
    except ZooError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0
