"""PyTorch: an exported program, run eagerly in inference mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

guard = torch.inference_mode()
guard.__enter__()  # ends when the guard does: it is kept


def load(model: str, array: Any, threads: int) -> tuple[Callable[[], object], None, str]:
    torch.set_num_threads(threads)
    module = torch.export.load(model).module()
    tensor = torch.from_numpy(array)
    return lambda: module(tensor), None, "ExportedProgram.module()(tensor)"
