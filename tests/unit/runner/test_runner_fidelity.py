"""Fidelity figures against their formulas, and what counts as the same network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.contract.comparison import LIMITS, check, described
from agent.contract.failures import BadOutput
from agent.contract.trial import Fidelity, Tolerance
from agent.runner import criteria, fidelity
from orchestrator.domain.spec import DEFAULT_TOLERANCE

STRICT = Tolerance(min_cosine=0.999, max_top1_drop=0.01)
VECTORS = hnp.arrays(np.float64, 5, elements=st.floats(-100, 100, allow_subnormal=False))


def f32(values: Any) -> Any:
    return np.asarray(values, np.float32)


def one(array: Any) -> list[dict[str, Any]]:
    return [{"y": np.asarray(array, dtype=np.float32)}]


def test_identical_outputs() -> None:
    found = fidelity.compare(one([1, 2]), one([1, 2]), STRICT)
    assert (found.max_abs, found.max_rel, found.cosine, found.psnr_db) == (0.0, 0.0, 1.0, None)
    assert found.passed


def test_figures_follow_their_formulas() -> None:
    found = criteria.distance(np.array([1.0, 2.0, 5.0]), np.array([1.0, 2.0, 4.0]))
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
    found = criteria.distance(a, b)
    assert -1.0 <= found.cosine <= 1.0
    assert found.max_abs >= 0.0
    assert criteria.distance(a, a) == (0.0, 0.0, 1.0, math.inf, 0.0)


def test_the_worst_output_of_any_feed_is_named() -> None:
    good, bad = np.array([1.5, 0.0]), np.array([1.5, 1.5])
    expected = [{"a": good, "b": good}, {"a": good, "b": good}]
    actual = [{"a": good, "b": good}, {"a": good, "b": bad}]
    found = fidelity.compare(actual, expected, STRICT)
    assert (found.worst_output, found.feeds, found.passed) == ("b", 2, False)
    assert found.cosine == pytest.approx(math.sqrt(0.5))


def test_a_wrong_scale_fails_although_its_cosine_is_1() -> None:
    found = fidelity.compare(one([3, 5]), one([1.5, 2.5]), STRICT)
    assert found.cosine == pytest.approx(1.0)
    assert not found.passed


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_no_number_is_a_bad_output(wrong: float) -> None:
    with pytest.raises(BadOutput, match="output y: 1 of 2 values"):
        fidelity.compare(one([1, wrong]), one([1, 2]), STRICT)


def test_another_shape_or_number_of_outputs_is_a_bad_output() -> None:
    with pytest.raises(BadOutput, match="output y: 3 rows, the reference 2"):
        fidelity.compare(one([1, 2, 3]), one([1, 2]), STRICT)
    with pytest.raises(BadOutput, match="output y: 3 along axis 1, the reference 2"):
        fidelity.compare(one([[1, 2, 3]]), one([[1, 2]]), STRICT)
    with pytest.raises(BadOutput, match="the outputs are a, b; the reference has y"):
        fidelity.compare([{"a": np.zeros(2), "b": np.zeros(2)}], one([1, 2]), STRICT)


def test_other_names_are_taken_in_order() -> None:
    expected = [{"p": np.array([1.0]), "q": np.array([2.0])}]
    actual = [{"linear": np.array([1.0]), "relu": np.array([2.0])}]
    assert fidelity.compare(actual, expected, STRICT).passed


def kinds(*arrays: Any) -> str:
    return criteria.kind_of([np.asarray(a) for a in arrays])


MASK = np.zeros((1, 16, 16), np.int64)
MASK[0, :8] = 3


@pytest.mark.parametrize(
    ("arrays", "kind"),
    [
        ([np.random.RandomState(0).randn(1, 10)], criteria.NUMBERS),
        ([f32([[0.2]]), f32([[0.9]])], criteria.SINGLE),
        ([f32(0.25)], criteria.SINGLE),
        ([f32([[0.2], [0.3]])], criteria.SINGLE),
        ([np.array([4, 7])], criteria.NUMBERED),
        ([np.array([True, False])], criteria.NUMBERED),
        ([f32([[3.0]]), f32([[7.0]])], criteria.NUMBERED),  # class numbers as floats
        ([MASK], criteria.REGIONS),
        ([MASK.astype(bool)], criteria.REGIONS),
        ([MASK.astype(np.float32)], criteria.REGIONS),
        ([np.arange(256, dtype=np.uint8).reshape(1, 16, 16)], criteria.NUMBERS),  # an image
        ([np.arange(10, dtype=np.uint8)[None]], criteria.NUMBERS),  # scores in 8 bits
        ([np.zeros((1, 4, 8, 8), np.float32)], criteria.NUMBERS),  # no regions in it
        ([np.zeros((2, 0), np.int64)], criteria.NUMBERED),
    ],
)
def test_what_an_output_is_follows_from_its_reference(arrays: Any, kind: str) -> None:
    assert kinds(*arrays) == kind


def compared(actual: Any, expected: Any, precision: str, scored: str = "") -> Fidelity:
    ours, theirs = [{"y": np.asarray(a)} for a in actual], [{"y": np.asarray(e)} for e in expected]
    wanted = DEFAULT_TOLERANCE[precision].wire()
    return fidelity.compare(ours, theirs, wanted, precision, scored)


def test_class_numbers_are_right_or_wrong() -> None:
    expected = [np.arange(500, 516)]
    found = compared([expected[0] + 1], expected, "int8")
    assert (found.checks[0].criterion, found.checks[0].figure) == ("equal", 0.0)
    assert not found.passed
    assert found.cosine == 0.0  # not the 0.99999 of two vectors of large numbers
    assert described(found.checks[0]) == "equal values 0 %, at least 93.75 %"


@pytest.mark.parametrize(("precision", "passed"), [("fp32", False), ("fp16", True), ("int8", True)])
def test_below_fp32_one_of_a_few_class_numbers_may_differ(precision: str, passed: bool) -> None:
    expected = [np.array([n]) for n in (3, 8, 1, 4)]
    actual = [np.array([n]) for n in (3, 8, 1, 5)]
    assert compared(actual, expected, precision).passed is passed


def test_single_values_have_no_direction() -> None:
    expected = [f32([[v]]) for v in (0.2, 0.4, 0.5, 0.9)]
    found = compared([e * 1.3 for e in expected], expected, "int8")
    assert [c.criterion for c in found.checks] == ["relative_error"]
    assert described(found.checks[0]) == "relative error 30 %, at most 20 %"
    assert not found.passed
    assert compared([e * 1.05 for e in expected], expected, "int8").passed


def test_masks_are_compared_by_overlap() -> None:
    moved = np.roll(MASK, 1, axis=1)
    found = compared([moved], [MASK], "int8")
    assert found.checks[0].criterion == "overlap"
    assert found.checks[0].figure == pytest.approx(100 * 7 / 9)
    assert not found.passed
    assert compared([MASK], [MASK], "fp32").passed


def test_a_cosine_near_1_hides_neither_scale_nor_noise() -> None:
    """Three outputs that all grew by 30 %; and many on a large offset."""
    few = compared([f32([[1.3, 2.6, 3.9]])], [f32([[1.0, 2.0, 3.0]])], "int8")
    assert few.cosine > 0.99999
    assert not few.passed
    assert [c.criterion for c in few.checks if not c.passed] == ["psnr", "relative_error"]
    random = np.random.RandomState(0)
    smooth = 100 + np.sin(np.arange(300.0))[None]
    noisy = compared([smooth + random.randn(1, 300)], [smooth], "int8")
    assert noisy.cosine > 0.9999
    assert (noisy.checks[0].criterion, noisy.passed) == ("psnr", False)


def test_where_accuracy_decides_the_relative_error_may_be_larger() -> None:
    actual, expected = [f32([[1.3, 2.6, 3.9]])], [f32([[1.0, 2.0, 3.0]])]
    assert compared(actual, expected, "int8", scored="y").passed
    assert not compared(actual, expected, "int8", scored="another").passed


def test_a_sweeps_own_limits_decide() -> None:
    strict = Tolerance(0.95, 0.01, max_relative_error=0.01)
    assert not fidelity.compare(one([[1.02, 2, 3]]), one([[1, 2, 3.5]]), strict, "int8").passed
    loose = Tolerance(0.95, 0.01, max_relative_error=0.4, min_psnr_db=0.0)
    few = fidelity.compare(one([[1.3, 2.6, 3.9]]), one([[1.0, 2.0, 3.01]]), loose, "int8")
    assert few.passed
    assert fidelity.compare(one([[9, 1]]), one([[1.0, 2.5]]), Tolerance(0.0, 1.0)).passed


def test_an_unchanging_reference_says_so() -> None:
    same = [f32([[1.5, 2.5]])] * 4
    found = compared(same, same, "fp32")
    assert found.passed
    assert all("the reference is the same for all 4 inputs" in c.note for c in found.checks)
    assert criteria.unchanging([{"y": 1.0}]) == []


@given(VECTORS)
def test_what_is_identical_passes_every_criterion(values: Any) -> None:
    for precision in LIMITS:
        assert compared([values[None]], [values[None]], precision).passed


@pytest.mark.parametrize("figure", [0.98999, 0.9899999999, 0.5])
def test_a_missed_limit_never_reads_as_met(figure: float) -> None:
    text = described(check("y", "cosine", figure, 0.99, 10))
    assert not text.startswith("cosine 0.99,")
