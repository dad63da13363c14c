"""The order of axes that the names NCHW and NHWC stand for."""

from __future__ import annotations

from typing import Optional, Tuple

from agent.contract.trial import TensorSpec

Axes = Optional[Tuple[int, ...]]


ORDER = {("NCHW", "NHWC"): (0, 2, 3, 1), ("NHWC", "NCHW"): (0, 3, 1, 2)}
"""(layout, wanted layout) → the axes to transpose by."""


def axes(of: TensorSpec, to: TensorSpec) -> Axes:
    """The transposition that makes ``of``'s layout ``to``'s: by what both say, never by shapes."""
    return ORDER.get((of.layout, to.layout)) if len(of.shape) == 4 else None
