"""Arithmetic of sliding windows: kernel, stride, dilation and padding of convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.zoo.errors import ShapeMismatch

Size = int | tuple[int, int]
Padding = int | tuple[int, int] | str
"""One number for all sides, (vertical, horizontal), or ``same``: output = ceil(input / stride), the
odd pixel at the bottom and right, as TensorFlow pads."""


@dataclass(frozen=True)
class Window:
    """A window resolved on a given input; ``pads`` is (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    output: tuple[int, int]


def resolve(
    layer: str,
    size: Sequence[int],
    *,
    kernel: Size,
    stride: Size,
    padding: Padding,
    dilation: Size = 1,
) -> Window:
    """The window on an input of ``size`` (height, width).

    Raises ShapeMismatch, naming ``layer``, if a number is out of range or the window does not fit.
    """
    kernels, strides, dilations = (_pair(value) for value in (kernel, stride, dilation))
    if min(*kernels, *strides, *dilations) < 1:
        raise ShapeMismatch(f"{layer}: kernel, stride and dilation must be at least 1")
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernels, dilations, strict=True))
    before, after = [0, 0], [0, 0]
    if padding == "same":
        for axis in range(2):
            wanted = -(-size[axis] // strides[axis])
            total = max(0, (wanted - 1) * strides[axis] + reach[axis] - size[axis])
            before[axis], after[axis] = total // 2, total - total // 2
    elif isinstance(padding, str):
        raise ShapeMismatch(f"{layer}: padding {padding!r} is not known; use numbers or 'same'")
    else:
        before[:] = after[:] = _pair(padding)
    if min(before) < 0 or any(p >= r for p, r in zip(after, reach, strict=True)):
        raise ShapeMismatch(
            f"{layer}: padding {padding} must be from 0 to below the kernel's reach"
        )
    output = [
        (size[axis] + before[axis] + after[axis] - reach[axis]) // strides[axis] + 1
        for axis in range(2)
    ]
    if min(output) < 1:
        raise ShapeMismatch(
            f"{layer}: a {kernels} kernel does not fit on an input of {tuple(size)}"
        )
    pads = (before[0], before[1], after[0], after[1])
    return Window(kernels, strides, dilations, pads, (output[0], output[1]))


def _pair(value: Size) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
