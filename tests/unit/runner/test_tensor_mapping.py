"""Between a model's tensors and its artifact's: names, axes and order, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from agent.contract.failures import UnsupportedShape
from agent.contract.trial import TensorSpec
from agent.runner.tensor_mapping import TensorMapping

IMAGE = TensorSpec("image", "float32", (2, 3, 4, 5), "NCHW")
COUNT = TensorSpec("count", "int64", (1,))
OWN_IMAGE = TensorSpec("serving_default_image:0", "float32", (-1, 4, 5, 3), "NHWC")
OWN_COUNT = TensorSpec("n", "int64", (1,))
MASK = TensorSpec("mask", "float32", (2, 6, 4, 5), "NCHW")
SCORE = TensorSpec("score", "float32", (2, 10))
OWN_MASK = TensorSpec("out_1", "float32", (-1, 4, 5, 6), "NHWC")
OWN_SCORE = TensorSpec("out_0", "float32", (-1, 10))

VIEW = TensorMapping((IMAGE, COUNT), (MASK, SCORE), (OWN_IMAGE, OWN_COUNT), (OWN_MASK, OWN_SCORE))


def test_wanted_inputs_get_the_artifacts_names_and_axes_and_keep_their_sizes() -> None:
    image, count = VIEW.specs((IMAGE, COUNT))
    assert (image.name, image.shape, image.layout) == (OWN_IMAGE.name, (2, 4, 5, 3), "NHWC")
    assert (count.name, count.shape, count.dtype) == ("n", (1,), "int64")


def test_a_feed_is_transposed_into_an_array_of_its_own_order() -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(IMAGE.shape)
    fed = VIEW.feed({"image": array, "count": np.array([7])})
    moved = fed[OWN_IMAGE.name]
    assert moved.shape == (2, 4, 5, 3)
    assert moved.flags.c_contiguous
    assert moved[1, 2, 3, 0] == array[1, 0, 2, 3]
    assert fed["n"].tolist() == [7]


def test_outputs_come_back_under_the_models_names_in_its_order() -> None:
    mask = np.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6)
    found = VIEW.outputs({"out_0": np.ones((2, 10)), "out_1": mask})
    assert list(found) == ["mask", "score"]
    assert found["mask"].shape == MASK.shape
    assert found["mask"][1, 5, 2, 3] == mask[1, 2, 3, 5]


def test_outputs_of_other_names_than_announced_stay_as_they_are() -> None:
    found = VIEW.outputs({"a": np.ones(1), "b": np.ones(2)})
    assert list(found) == ["a", "b"]


def test_without_own_tensors_nothing_changes() -> None:
    plain = TensorMapping((IMAGE,), (SCORE,))
    assert plain.specs((IMAGE,)) == [IMAGE]
    array = np.zeros(IMAGE.shape, np.float32)
    assert plain.feed({"image": array})["image"] is array
    assert plain.outputs({"score": array})["score"] is array


def test_axes_are_never_guessed_from_shapes() -> None:
    unknown = TensorSpec("x", "float32", (1, 4, 5, 3))
    [spec] = TensorMapping((IMAGE,), (), (unknown,)).specs((IMAGE,))
    assert spec.shape == IMAGE.shape


def test_another_number_of_tensors_is_refused() -> None:
    with pytest.raises(UnsupportedShape, match=r"inputs are n; the model's are image, count"):
        TensorMapping((IMAGE, COUNT), (), (OWN_COUNT,))
