"""Outputs whose sizes follow from the data: a difference is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.contract.failures import BadData, BadOutput
from agent.contract.trial import Tolerance
from agent.runner import fidelity, reference_inputs


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ((7, 3), (8, 3), "output y: 7 rows, the reference 8"),
        ((2, 7), (2, 8), "output y: 7 along axis 1, the reference 8 ([2, 7], [2, 8])"),
        ((0,), (2,), "output y: 0 rows, the reference 2"),
        ((3, 2), (2, 3), "output y is [3, 2]; the reference is [2, 3]"),
        ((6,), (2, 3), "output y is [6]; the reference is [2, 3]"),
    ],
)
def test_a_difference_is_named(ours: Any, theirs: Any, words: str) -> None:
    with pytest.raises(BadOutput) as raised:
        fidelity.compare([{"y": np.ones(ours)}], [{"y": np.ones(theirs)}], Tolerance(0.99, 1.0))
    assert str(raised.value) == words


def test_feeds_of_other_sizes_are_compared_each_with_its_own() -> None:
    outputs = [{"y": np.random.RandomState(n).standard_normal((n, 3))} for n in (0, 2, 5)]
    assert fidelity.compare(outputs, outputs, Tolerance(0.99, 1.0)).passed
    empty = [{"y": np.zeros((0, 3), np.int64)}]
    assert fidelity.compare(empty, empty, Tolerance(0.99, 1.0)).passed


def test_a_size_that_differs_is_free() -> None:
    outputs = [{"y": np.ones((2, n)), "s": np.float32(1)} for n in (3, 4)]
    assert reference_inputs.shapes(outputs) == {"y": (2, -1), "s": ()}
    with pytest.raises(BadData, match="output y has other axes for other inputs: \\[2\\] and"):
        reference_inputs.shapes([{"y": np.ones(2)}, {"y": np.ones((2, 1))}])
