"""What people say of inputs, and data sets for several: what does not fit leaves nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from orchestrator.domain.errors import Conflict, UserError
from orchestrator.service.models import registration
from orchestrator.service.models.registration import NewModel
from support import onnx_files
from support.farms import FarmKit

L, F = TensorProto.INT64, TensorProto.FLOAT
NAMES = ("input_ids", "token_type_ids", "attention_mask", "position_ids")
SAMPLES = 6
SQUARED = onnx_files.model(
    [
        helper.make_node("Mul", ["i", "i"], ["j"]),
        helper.make_node("Gather", ["t", "j"], ["y"]),
    ],
    [helper.make_tensor_value_info("i", L, [1, 4])],
    [helper.make_tensor_value_info("y", F, [1, 4, 3])],
    {"t": np.ones((5, 3), np.float32)},
).SerializeToString()


def npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def texts(more: Mapping[str, Any] = MappingProxyType({}), leave_out: str = "") -> bytes:
    arrays: dict[str, Any] = {
        f"{kind}:{name}": np.zeros((count, 6), np.int64)
        for kind, count in (("inputs", SAMPLES), ("calibration", 4))
        for name in NAMES
    }
    arrays |= {"labels": np.arange(SAMPLES) % 2, **more}
    arrays.pop(leave_out, None)
    return npz(arrays)


def new(farm: FarmKit, data: bytes, **more: Any) -> NewModel:
    return replace(NewModel("mine", "mine.onnx", farm.farm.blobs.put(data)), **more)


def refused(farm: FarmKit, wanted: NewModel, error: type[Exception] = UserError) -> str:
    """The message; nothing of the model, its data set or its feeds is left."""
    rows = farm.rows()
    sent = {wanted.sha256, wanted.dataset_sha256, wanted.feeds_sha256}
    before = farm.blobs() - sent
    with pytest.raises(error) as caught:
        registration.add(farm.farm, wanted)
    assert farm.rows() == rows
    assert farm.blobs() - sent == before
    assert wanted.feeds_sha256 not in farm.blobs()
    return str(caught.value)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("j:range=0,2", "the model has no such input; it has i"),
        ("i:range=2,0", "a range is its lowest and its highest value"),
        ("i:range=0.5,2", "0.5 is no value of int64"),
        ("i:range=0,1e30", "is no value of int64"),
        ("i:values=1,2,3", "3 values for an input of shape [1, 4]; give 1 or 4"),
        ("i:values=one", "are no numbers"),
        ("i:values=nan", "are no numbers"),
        ("i=0,2", "accepted are ids:range=0,30521"),
        ("i:range=0", "a range is its lowest and its highest value"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(
    farm: FarmKit, declared: str, words: str
) -> None:
    assert words in refused(farm, new(farm, SQUARED, inputs=[declared]))


def test_a_declaration_is_kept_and_cannot_be_changed_later(farm: FarmKit) -> None:
    wanted = new(farm, SQUARED, inputs=["i:range=0,2"])
    assert "twice" in refused(farm, replace(wanted, inputs=["i:range=0,2", "i:values=1"]))
    wanted = new(farm, SQUARED, inputs=["i:range=0,2"])
    added = registration.add(farm.farm, wanted)
    assert added.details["values"] == {"i": "whole numbers 0…2 (as declared)"}
    assert registration.add(farm.farm, wanted).name == "mine"
    with pytest.raises(Conflict, match="leave --input and --inputs out"):
        registration.add(farm.farm, replace(wanted, inputs=["i:range=0,1"]))
    fixed = new(farm, SQUARED, name="fixed", inputs=["i:values=0,1,2,0"])
    assert registration.add(farm.farm, fixed).details["values"] == {
        "i": "always 0, 1, 2, 0 (as declared)"
    }


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"idz": np.zeros((1, 4))}, "feeds.npz: 'idz' is no input of the model; it has i"),
        ({"i": np.full((1, 4), 3)}, "feeds.npz: the network does not run on the given inputs"),
        ({"i": np.zeros((65, 1, 4))}, "feeds.npz: it holds 65 feeds; at most 64"),
        ({"i": np.zeros((1, 5))}, "input i takes [1, 4]"),
        (None, "feeds.npz: not an .npz"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(
    farm: FarmKit, arrays: dict[str, Any] | None, words: str
) -> None:
    feeds = farm.farm.blobs.put(b"no archive" if arrays is None else npz(arrays))
    wanted = new(farm, SQUARED, feeds_name="feeds.npz", feeds_sha256=feeds)
    assert words in refused(farm, wanted)


def test_the_reference_has_as_many_feeds_as_were_given(farm: FarmKit) -> None:
    feeds = farm.farm.blobs.put(npz({"i": np.array([[[0, 1, 2, 0]], [[1, 1, 1, 1]]])}))
    wanted = new(farm, SQUARED, feeds_name="feeds.npz", feeds_sha256=feeds)
    assert registration.add(farm.farm, wanted).details["values"] == {"i": "given, 2 feeds"}
    with farm.farm.database.read_session() as session:
        assert registration.find(session, "mine").reference["feeds"] == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            texts(leave_out="inputs:position_ids"),
            "input 'position_ids' has no array inputs:position_ids; its inputs are input_ids",
        ),
        (
            texts({"inputs:segment_ids": np.zeros((SAMPLES, 6), np.int64)}),
            "input 'segment_ids' is no input of the model; its inputs are input_ids",
        ),
        (
            texts({"inputs:input_ids": np.zeros((SAMPLES, 7), np.int64)}),
            "one sample of 'inputs:input_ids' has shape [7], the model takes [6]",
        ),
        (
            texts({"calibration:position_ids": np.zeros((5, 6), np.int64)}),
            "4 samples in 'calibration:input_ids' but 5 in 'calibration:position_ids'",
        ),
        (texts({"inputs": np.zeros((SAMPLES, 6), np.int64)}), "name all inputs, or none"),
        (
            npz(
                {
                    "inputs": np.zeros((2, 6)),
                    "labels": np.zeros(2, np.int64),
                    "calibration": np.zeros((2, 6)),
                }
            ),
            "it must hold the arrays inputs:input_ids, inputs:token_type_ids",
        ),
    ],
)
def test_a_data_set_of_other_inputs_is_refused(farm: FarmKit, data: bytes, words: str) -> None:
    wanted = new(
        farm,
        onnx_files.tiny_bert().SerializeToString(),
        dataset_name="texts.npz",
        dataset_sha256=farm.farm.blobs.put(data),
    )
    assert words in refused(farm, wanted)


def test_a_data_set_and_a_declaration_exclude_each_other(farm: FarmKit) -> None:
    wanted = new(
        farm,
        onnx_files.tiny_bert().SerializeToString(),
        dataset_name="texts.npz",
        dataset_sha256=farm.farm.blobs.put(texts()),
        inputs=["input_ids:range=0,3"],
    )
    assert "the data set texts.npz gives all inputs" in refused(farm, wanted)
    both = replace(
        wanted,
        sha256=farm.farm.blobs.put(onnx_files.tiny_bert().SerializeToString()),
        dataset_sha256=farm.farm.blobs.put(texts()),
        inputs=(),
    )
    assert set(registration.add(farm.farm, both).details["values"].values()) == {
        "the first samples of the data set"
    }
