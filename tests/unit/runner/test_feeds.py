"""Seeded feeds, batches and back, reference files, data-set samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.failures import BadData, BadOutput
from agent.contract.input_values import FIXED, GIVEN, REAL, WHOLE, InputValues
from agent.contract.trial import TensorSpec
from agent.runner.feeds import (
    batched_specs,
    batches,
    given_feeds,
    load_npz,
    load_reference,
    redrawn,
    sample_feeds,
    save_reference,
    seeded,
    unbatched,
)

IMAGE = TensorSpec("image", "float32", (1, 2, 3))
IDS = TensorSpec("ids", "int64", (1, 5))


def save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def test_the_stream_of_a_seed_is_frozen() -> None:
    feed = seeded([TensorSpec("x", "float32", (2,))], seed=7, feeds=1)[0]
    expected = np.random.RandomState([7, 0, 0]).standard_normal(2).astype(np.float32)
    np.testing.assert_array_equal(feed["x"], expected)
    np.testing.assert_allclose(feed["x"], [-0.03980957, 0.36444539], rtol=1e-6)


def test_feeds_differ_from_each_other_and_between_inputs() -> None:
    both = [IMAGE, TensorSpec("other", "float32", (1, 2, 3))]
    first, second = seeded(both, 0, 2)
    assert not np.array_equal(first["image"], second["image"])
    assert not np.array_equal(first["image"], first["other"])


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int64", 0, 8), ("int32", 0, 8), ("uint8", 0, 256), ("bool", 0, 2), ("int8", 0, 8)],
)
def test_integers_stay_in_a_safe_range(dtype: str, low: int, high: int) -> None:
    (feed,) = seeded([TensorSpec("x", dtype, (1000,))], 3, 1)
    assert feed["x"].dtype == np.dtype(dtype)
    assert feed["x"].min() >= low
    assert feed["x"].max() < high


def test_a_free_dimension_is_refused_by_name() -> None:
    with pytest.raises(BadData, match="input x has a free dimension"):
        seeded([TensorSpec("x", "float32", (-1, 3))], 0, 1)


def test_batched_specs_multiply_axis_0_only() -> None:
    image, ids = batched_specs([IMAGE, IDS], 4)
    assert (image.shape, ids.shape) == ((4, 2, 3), (4, 5))
    assert batched_specs([TensorSpec("s", "float32", ())], 1)[0].shape == ()
    with pytest.raises(BadData, match="scalar"):
        batched_specs([TensorSpec("s", "float32", ())], 2)


@given(st.integers(1, 6), st.integers(1, 9))
def test_batches_cover_every_feed_and_come_apart_again(count: int, batch_size: int) -> None:
    feeds = seeded([IMAGE, IDS], 1, count)
    joined = batches(feeds, batch_size)
    assert all(b["image"].shape == (batch_size, 2, 3) for b in joined)
    apart = unbatched(joined, batch_size, count)
    assert len(apart) == count
    for ours, theirs in zip(apart, feeds, strict=True):
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        np.testing.assert_array_equal(ours["ids"], theirs["ids"])


def test_an_output_that_has_no_batch_axis_is_named() -> None:
    with pytest.raises(BadOutput, match=r"output y .* batch of 4"):
        unbatched([{"y": np.zeros((3, 2))}], 4, 4)


def test_reference_comes_back_feed_by_feed(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    save(path, {"input:x": np.arange(6).reshape(2, 3), "output:y": np.arange(2)})
    assert [f["x"].tolist() for f in load_reference(path, "input")] == [[0, 1, 2], [3, 4, 5]]
    assert [int(f["y"]) for f in load_reference(path, "output")] == [0, 1]


def test_a_bad_reference_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(BadData, match=r"reference\.npz is not a readable"):
        load_reference(path, "input")
    save(path, {"input:x": np.zeros((2, 3)), "input:z": np.zeros((3, 3))})
    with pytest.raises(BadData, match="one number of feeds"):
        load_reference(path, "input")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, inputs=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadData, match="not a readable"):
        load_npz(path, ("inputs",))


def test_a_missing_array_says_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, inputs=np.zeros(1))
    with pytest.raises(BadData, match="no array 'labels'; it has inputs"):
        load_npz(path, ("inputs", "labels"))


@pytest.mark.parametrize(("size", "feeds"), [(1, 5), (2, 3), (8, 1)])
def test_samples_fill_feeds_of_any_batch(size: int, feeds: int) -> None:
    samples = np.arange(10, dtype=np.float64).reshape(5, 2)
    made = sample_feeds(samples, [TensorSpec("x", "float32", (size, 2))], "inputs")
    assert len(made) == feeds
    rows = np.concatenate([f["x"] for f in made])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[:5], samples)
    np.testing.assert_array_equal(rows[5:], samples[: len(rows) - 5])


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(BadData, match=r"one sample is \[3\]; input x takes \[2\]"):
        sample_feeds(np.zeros((4, 3)), [TensorSpec("x", "float32", (1, 2))], "inputs")
    with pytest.raises(BadData, match="feeds one input; the model has 2"):
        sample_feeds(np.zeros((4, 3)), [IMAGE, IDS], "inputs")
    with pytest.raises(BadData, match="is empty"):
        sample_feeds(np.zeros((0, 2)), [TensorSpec("x", "float32", (1, 2))], "inputs")


def test_values_are_drawn_as_known_and_stored_with_the_reference(tmp_path: Path) -> None:
    types, shape = TensorSpec("types", "int64", (4, 50)), TensorSpec("shape", "int64", (2,))
    unit, ids = TensorSpec("unit", "float32", (1, 50)), TensorSpec("ids", "float32", (1, 50))
    values = {
        "types": InputValues(WHOLE, 0, 1),
        "shape": InputValues(FIXED, fixed=(2.0, 3.0)),
        "unit": InputValues(REAL, 0.25, 0.5),
        "ids": InputValues(WHOLE, 10, 12),
    }
    specs = [types, shape, unit, ids]
    feeds = seeded(specs, 0, 2, values)
    assert {*np.unique([f["types"] for f in feeds])} == {0, 1}
    assert all(f["shape"].tolist() == [2, 3] for f in feeds)
    assert all(((f["unit"] >= 0.25) & (f["unit"] <= 0.5)).all() for f in feeds)
    assert {*np.unique(feeds[0]["ids"])} == {10, 11, 12}
    save_reference(tmp_path / "r.npz", feeds, [{"y": np.zeros(1)}] * 2, values)
    again = redrawn(specs, 1, 2, tmp_path / "r.npz")
    assert again[0]["types"].max() == 1
    assert not np.array_equal(again[0]["types"], feeds[0]["types"])


def test_whole_numbers_that_were_given_are_not_drawn_again(tmp_path: Path) -> None:
    feeds = [{"image": np.ones((1, 2, 3), np.float32), "ids": np.full((1, 5), 30000)}]
    values = {name: InputValues(GIVEN) for name in feeds[0]}
    save_reference(tmp_path / "r.npz", feeds, [{"y": np.zeros(1)}], values)
    again = redrawn([IMAGE, IDS], 1, 3, tmp_path / "r.npz")
    assert [f["ids"].max() for f in again] == [30000] * 3
    assert len({f["image"].tobytes() for f in again}) == 3


@pytest.mark.parametrize("sizes", [(3, 0, 2), (2, 2, 2)])
def test_outputs_of_other_sizes_come_back_feed_by_feed(tmp_path: Path, sizes: Any) -> None:
    outputs = [{"z": np.zeros(2), "y": np.ones((2, n)), "a": np.float32(n)} for n in sizes]
    save_reference(tmp_path / "r.npz", [{"x": np.zeros(1)}] * 3, outputs, {})
    back = load_reference(tmp_path / "r.npz", "output")
    assert [list(output) for output in back] == [["z", "y", "a"]] * 3  # in the model's order
    assert [output["y"].shape for output in back] == [(2, n) for n in sizes]


def test_a_data_set_feeds_several_inputs(tmp_path: Path) -> None:
    mask = TensorSpec("mask", "int64", (1, 2))
    path = tmp_path / "d.npz"
    ids, masks = np.arange(15).reshape(3, 5), np.ones((3, 2), np.int64)
    save(path, {"inputs:ids": ids, "inputs:mask": masks, "labels": np.arange(3)})
    data = load_npz(path, ("inputs", "labels"))
    assert len(data["inputs"]) == 3
    feeds = sample_feeds(data["inputs"], [IDS, mask], "inputs")
    assert [f["ids"].tolist() for f in feeds] == [[row.tolist()] for row in ids]
    assert len(sample_feeds(data["inputs"][:2], [IDS, mask], "inputs")) == 2
    with pytest.raises(BadData, match="has inputs for ids, mask; the model's inputs are ids"):
        sample_feeds(data["inputs"], [IDS], "inputs")
    with pytest.raises(BadData, match="name them, inputs:ids, inputs:mask"):
        sample_feeds(ids, [IDS, mask], "inputs")
    save(path, {"inputs:ids": ids, "inputs:mask": masks[:2], "labels": np.arange(3)})
    with pytest.raises(BadData, match="inputs:ids has 3, inputs:mask has 2"):
        load_npz(path, ("inputs", "labels"))


@pytest.mark.parametrize(
    ("shape", "feeds"), [((1, 5), 1), ((3, 1, 5), 3), ((4, 5), 4), ((1, 1, 5), 1)]
)
def test_given_feeds_are_counted_by_their_axes(tmp_path: Path, shape: Any, feeds: int) -> None:
    np.savez(tmp_path / "f.npz", ids=np.zeros(shape, np.int32))
    found = given_feeds(tmp_path / "f.npz", [IDS, IMAGE])
    assert [f["ids"].shape for f in found] == [(1, 5)] * feeds
    assert found[0]["ids"].dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"idz": np.zeros((1, 5))}, "'idz' is no input of the model; it has ids, image"),
        ({"ids": np.zeros((1, 6))}, "takes \\[1, 5\\], or one more axis in front"),
        ({"ids": np.zeros((0, 5))}, "takes \\[1, 5\\]"),
        ({"ids": np.full((1, 5), 0.5)}, "some of the float64 values do not fit"),
        ({"ids": np.full((1, 5), "a")}, "values do not fit"),
        (
            {"ids": np.zeros((3, 5)), "image": np.zeros((2, 2, 3))},
            "'image' holds 2 feeds, others 3",
        ),
        ({}, "is no input of the model"),
    ],
)
def test_given_feeds_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(BadData, match=words):
        given_feeds(tmp_path / "f.npz", [IDS, IMAGE])
