"""Window arithmetic, against definitions computed the slow way."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.zoo.errors import ShapeMismatch
from orchestrator.zoo.windows import Padding, Size, resolve

small = st.integers(1, 5)


@given(size=st.integers(1, 40), kernel=small, stride=small, dilation=small)
def test_same_gives_the_ceiling_and_puts_the_odd_pixel_last(
    size: int, kernel: int, stride: int, dilation: int
) -> None:
    window = resolve(
        "x", (size, size), kernel=kernel, stride=stride, padding="same", dilation=dilation
    )
    top, left, bottom, right = window.pads
    assert window.output == (math.ceil(size / stride),) * 2
    assert 0 <= bottom - top <= 1
    assert (top, bottom) == (left, right)


@given(size=st.integers(1, 40), kernel=small, stride=small, dilation=small, pad=st.integers(0, 3))
def test_output_counts_the_places_where_the_window_fits(
    size: int, kernel: int, stride: int, dilation: int, pad: int
) -> None:
    reach = dilation * (kernel - 1) + 1
    places = len(range(0, size + 2 * pad - reach + 1, stride))
    if pad >= reach or places < 1:
        with pytest.raises(ShapeMismatch):
            resolve("x", (size, size), kernel=kernel, stride=stride, padding=pad, dilation=dilation)
        return
    window = resolve(
        "x", (size, size), kernel=kernel, stride=stride, padding=pad, dilation=dilation
    )
    assert window.output == (places, places)


def test_sides_may_differ() -> None:
    window = resolve("x", (9, 17), kernel=(1, 7), stride=(1, 2), padding=(0, 3))
    assert window.output == (9, 9)
    assert window.pads == (0, 3, 0, 3)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "said"),
    [
        (0, 1, 0, "at least 1"),
        (3, 0, 0, "at least 1"),
        (3, 1, -1, "padding -1"),
        (3, 1, 3, "padding 3"),
        (3, 1, "valid", "'valid' is not known"),
        (9, 1, 0, "does not fit"),
    ],
)
def test_a_wrong_window_names_the_layer(
    kernel: Size, stride: Size, padding: Padding, said: str
) -> None:
    with pytest.raises(ShapeMismatch, match=f"stem.conv: .*{said}"):
        resolve("stem.conv", (8, 8), kernel=kernel, stride=stride, padding=padding)
