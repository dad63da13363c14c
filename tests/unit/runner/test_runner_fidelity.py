"""Fidelity figures against their formulas, and what counts as the same network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.contract.failures import BadData, BadOutput
from agent.contract.trial import Tolerance
from agent.runner import fidelity

STRICT = Tolerance(min_cosine=0.999, max_top1_drop=0.01)
VECTORS = hnp.arrays(np.float64, 5, elements=st.floats(-100, 100, allow_subnormal=False))


def one(array: Any) -> list[dict[str, Any]]:
    return [{"y": np.asarray(array, dtype=np.float32)}]


def test_identical_outputs() -> None:
    found = fidelity.compare(one([1, 2]), one([1, 2]), STRICT)
    assert (found.max_abs, found.max_rel, found.cosine, found.psnr_db) == (0.0, 0.0, 1.0, None)
    assert found.passed


def test_figures_follow_their_formulas() -> None:
    found = fidelity.distance(np.array([1.0, 2.0, 5.0]), np.array([1.0, 2.0, 4.0]))
    assert found.max_abs == 1.0
    assert found.max_rel == 1.0 / 4.0
    assert found.cosine == pytest.approx(25 / math.sqrt(30 * 21))
    assert found.psnr_db == pytest.approx(20 * math.log10(3 / math.sqrt(1 / 3)))
    assert found.error == pytest.approx(1 / math.sqrt(21))


def test_zero_references_give_finite_figures_on_the_wire() -> None:
    found = fidelity.compare(one([1, 0]), one([0, 0]), STRICT)
    assert found.cosine == 0.0
    assert all(map(math.isfinite, (found.max_abs, found.max_rel, found.psnr_db or 0.0)))
    assert not found.passed


@given(VECTORS, VECTORS)
def test_bounds_hold(a: Any, b: Any) -> None:
    found = fidelity.distance(a, b)
    assert -1.0 <= found.cosine <= 1.0
    assert found.max_abs >= 0.0
    assert fidelity.distance(a, a) == (0.0, 0.0, 1.0, math.inf, 0.0)


def test_the_worst_output_of_any_feed_is_named() -> None:
    good, bad = np.array([1.0, 0.0]), np.array([1.0, 1.0])
    expected = [{"a": good, "b": good}, {"a": good, "b": good}]
    actual = [{"a": good, "b": good}, {"a": good, "b": bad}]
    found = fidelity.compare(actual, expected, STRICT)
    assert (found.worst_output, found.feeds, found.passed) == ("b", 2, False)
    assert found.cosine == pytest.approx(math.sqrt(0.5))


def test_a_wrong_scale_fails_although_its_cosine_is_1() -> None:
    found = fidelity.compare(one([2, 4]), one([1, 2]), STRICT)
    assert found.cosine == pytest.approx(1.0)
    assert not found.passed


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_no_number_is_a_bad_output(wrong: float) -> None:
    with pytest.raises(BadOutput, match="output y: 1 of 2 values"):
        fidelity.compare(one([1, wrong]), one([1, 2]), STRICT)


def test_another_shape_or_number_of_outputs_is_a_bad_output() -> None:
    with pytest.raises(BadOutput, match=r"output y is \[3\]; the reference is \[2\]"):
        fidelity.compare(one([1, 2, 3]), one([1, 2]), STRICT)
    with pytest.raises(BadOutput, match="the outputs are a, b; the reference has y"):
        fidelity.compare([{"a": np.zeros(2), "b": np.zeros(2)}], one([1, 2]), STRICT)


def test_other_names_are_taken_in_order() -> None:
    expected = [{"p": np.array([1.0]), "q": np.array([2.0])}]
    actual = [{"linear": np.array([1.0]), "relu": np.array([2.0])}]
    assert fidelity.compare(actual, expected, STRICT).passed


def test_top1_is_numpys_and_ignores_filling() -> None:
    outputs = [np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([[0.3, 0.7], [0.0, 1.0]])]
    assert fidelity.top1(outputs, np.array([1, 1, 1])) == pytest.approx(2 / 3)
    with pytest.raises(BadData, match="5 labels but only 4"):
        fidelity.top1(outputs, np.zeros(5))


@pytest.mark.parametrize(
    ("score", "reference", "passed"),
    [(0.89, 0.90, True), (0.8899, 0.90, False), (0.95, 0.90, True), (0.1, None, True)],
)
def test_the_allowed_drop_is_inclusive(score: float, reference: float, passed: bool) -> None:
    assert fidelity.accuracy(score, 100, reference, STRICT).passed is passed
