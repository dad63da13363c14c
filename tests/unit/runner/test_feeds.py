"""Seeded feeds, batches and back, reference files, data-set samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.failures import BadData, BadOutput
from agent.contract.trial import TensorSpec
from agent.runner.feeds import (
    batched_specs,
    batches,
    load_npz,
    load_reference,
    sample_feeds,
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
