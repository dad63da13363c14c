"""Exported programs with something special each, written under an interpreter that has torch."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.environments import python_of

_CODE = """
import sys
from pathlib import Path
import torch

class Pick(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(30.0).reshape(10, 3))
    def forward(self, ids, more):
        rows = torch.nn.functional.embedding(ids, self.table)
        return rows + more, rows - more

class Gamma(torch.nn.Module):
    def forward(self, x):
        return torch.special.gammaln(x)

for name, module, example in (
    ("pick", Pick(), (torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4, 3))),
    ("gamma", Gamma(), (torch.ones(1, 3),)),
):
    torch.export.save(torch.export.export(module.eval(), example), Path(sys.argv[1], name + ".pt2"))
"""


def write_special(folder: Path) -> dict[str, Path]:
    """``pick``: ``ids`` (1, 4) pick rows of 0 … 29 as (10, 3), ``more`` (1, 4, 3) is added and
    subtracted. ``gamma``: an operator that few runtimes have."""
    command = [python_of("pytorch"), "-c", _CODE, str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return {name: folder / f"{name}.pt2" for name in ("pick", "gamma")}
