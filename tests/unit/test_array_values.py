"""Values of an array, looked at in chunks of its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.trial import TensorSpec
from orchestrator.domain.errors import UserError
from orchestrator.domain.file_inspection import ArrayValues
from orchestrator.inspection.child import datasets
from orchestrator.inspection.child.array_values import ValueScan
from orchestrator.service.models import dataset_values


def scanned(array: Any, chunk: int = 7) -> ArrayValues:
    """``array`` in chunks that cut its values apart."""
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    scan = ValueScan("x", array.dtype, array.shape, order)
    data = array.tobytes(order)
    for start in range(0, len(data), chunk):
        scan.add(data[start : start + chunk])
    return scan.result()


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2", "i1", ">u4", "i8"])
def test_the_range_and_where_it_is(dtype: str) -> None:
    array = np.array([[1, 5, 3], [0, 2, 7]], dtype)
    found = scanned(array)
    assert (found.low, found.high, found.fraction, found.not_finite) == (0.0, 7.0, "", "")
    assert found.low_at.startswith("x[1, 0] is 0")
    assert found.high_at.startswith("x[1, 2] is 7")


def test_the_first_that_is_wrong_is_named_wherever_the_chunks_end() -> None:
    array = np.zeros((40, 3))
    array[20, 1], array[25, 2], array[33, 0] = 0.5, np.nan, np.inf
    for chunk in (1, 8, 100, 10_000):
        found = scanned(array, chunk)
        assert (found.fraction, found.not_finite) == ("x[20, 1] is 0.5", "x[25, 2] is nan")
    by_columns = scanned(np.asfortranarray(array))
    assert by_columns.fraction == "x[20, 1] is 0.5"


def test_text_booleans_and_nothing() -> None:
    assert scanned(np.array(["a\x1b[2J", "b"])).first == r"x[0] is 'a\x1b[2J'"
    assert scanned(np.array([True, False])).high_at == "x[0] is True"
    assert scanned(np.zeros((0, 3))).low_at == ""
    assert scanned(np.array(["", ""])).low_at == ""


def test_a_member_is_looked_at_while_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "CHUNK_BYTES", 13)
    inputs = np.linspace(0, 1, 30, dtype=np.float32).reshape(10, 3)
    np.savez(tmp_path / "d.npz", inputs=inputs, labels=np.arange(10), calibration=inputs[:2])
    found = datasets.arrays_of(tmp_path / "d.npz", "d.npz")
    assert found.shapes["inputs"] == (10, 3)
    assert (found.values["inputs"].high, found.values["labels"].high_at) == (1.0, "labels[9] is 9")


@pytest.mark.parametrize(
    ("values", "dtype", "says"),
    [
        ([0.0, 255.0], "uint8", ""),
        ([0.0, 0.5], "uint8", "x[1] is 0.5; input i takes uint8: values of 0…1 would become 0"),
        ([0.0, 1.5], "int32", "x[1] is 1.5; input i takes int32, which would cut them"),
        ([3e9, 1], "int32", "x[0] is 3000000000.0; input i takes int32: accepted are"),
        ([0, 2], "bool", "x[1] is 2; input i takes bool: accepted are 0 and 1"),
        ([7e4], "float16", "x[0] is 70000.0; input i takes float16: accepted are"),
        ([True, False], "float32", ""),
        ([0, 255], "float32", ""),
    ],
)
def test_what_an_input_does_not_hold(values: list[Any], dtype: str, says: str) -> None:
    found = {"x": scanned(np.array(values))}
    spec = TensorSpec("i", dtype, (1,))
    if not says:
        dataset_values.require_kept(found, "d.npz", "x", spec)
        return
    with pytest.raises(UserError) as refused:
        dataset_values.require_kept(found, "d.npz", "x", spec)
    assert str(refused.value).startswith(f"d.npz: {says}")
