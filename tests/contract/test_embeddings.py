"""Embeddings and sizes from data in the formats that only their runtime reads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.contract.child_jobs import Referenced, ReferenceJob
from agent.contract.trial import ModelRef
from support.environments import python_of
from support.runner_child import child, require

TENSORFLOW = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, tensorflow as tf
out = sys.argv[1]
words = keras.Input((6,), batch_size=1, name="words")  # floats, as Keras's default is
kinds = keras.Input((6,), batch_size=1, dtype="int32", name="kinds")
layers = keras.layers
both = layers.Embedding(30, 4, name="w")(words) + layers.Embedding(2, 4, name="k")(kinds)
keras.Model([words, kinds], layers.Dense(2)(layers.Flatten()(both))).save(out + "/two.keras")

class Rows(tf.Module):
    def __init__(self):
        self.table = tf.Variable(tf.ones([3, 7]))
    @tf.function(input_signature=[
        tf.TensorSpec([1, 4], tf.int64, "i"), tf.TensorSpec([1, 4], tf.int64, "j"),
        tf.TensorSpec([8], tf.float32, "x")])
    def call(self, i, j, x):
        turned = tf.transpose(self.table)
        return {"a": tf.gather(self.table, i) + 0.0, "b": tf.gather(turned, j + 2),
                "where": tf.where(x > 0), "kept": tf.boolean_mask(x, x > 0)}

rows = Rows()
tf.saved_model.save(rows, out + "/rows", signatures={"serving_default": rows.call})
import shutil
shutil.make_archive(out + "/rows", "zip", out + "/rows")
"""

TORCH = """
import sys, torch
out = sys.argv[1]

class Bert(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.kinds = torch.nn.Embedding(30, 4), torch.nn.Embedding(2, 4)
        self.register_buffer("rows", torch.arange(12.0).reshape(3, 4))
    def forward(self, ids, types, mask, places, x):
        both = self.words(ids) + self.kinds(types)
        bias = (1.0 - mask.to(torch.float32)) * -10000.0
        seen = torch.softmax(both @ both.transpose(1, 2) + bias[:, None, :], -1)
        return seen, self.rows[places - 1], torch.nonzero(x > 0), x[x > 0]

def whole(*shape):
    return torch.ones(shape, dtype=torch.int64)

inputs = whole(1, 6), whole(1, 6), whole(1, 6), whole(5), torch.randn(8)
torch.export.save(torch.export.export(Bert().eval(), inputs), out + "/bert.pt2")
"""


def written(label: str, program: str, folder: Path) -> Path:
    require(label)
    subprocess.run([python_of(label), "-c", program, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tensorflow_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("tensorflow", TENSORFLOW, tmp_path_factory.mktemp("tensorflow"))


def referenced(label: str, source: Path, form: str, folder: Path) -> Referenced:
    model = ModelRef("m", form, "0" * 64, source.stat().st_size, (), ())
    job = ReferenceJob(model, str(source), str(folder))
    found = child(label, "reference", job, Referenced, folder)
    assert found.failure is None, found.failure
    return found


def words(found: Referenced) -> dict[str, str]:
    return {name: values.words.split(" (")[0] for name, values in found.values.items()}


def test_a_keras_embedding(tensorflow_files: Path, tmp_path: Path) -> None:
    found = referenced("tensorflow", tensorflow_files / "two.keras", "keras", tmp_path)
    assert words(found) == {"words": "whole numbers 0…29", "kinds": "whole numbers 0…1"}


def test_a_savedmodel_with_variables_and_sizes_from_data(
    tensorflow_files: Path, tmp_path: Path
) -> None:
    found = referenced("tensorflow", tensorflow_files / "rows.zip", "savedmodel", tmp_path)
    assert words(found) == {
        "i": "whole numbers 0…2",
        "j": "whole numbers 0…4",
        "x": "standard normal",
    }
    assert {o.name: o.shape for o in found.outputs} == {
        "a": (1, 4, 7),
        "b": (1, 4, 3),
        "kept": (-1,),
        "where": (-1, 1),
    }


def test_an_exported_program(tmp_path: Path) -> None:
    source = written("pytorch", TORCH, tmp_path) / "bert.pt2"
    found = referenced("pytorch", source, "pt2", tmp_path)
    assert words(found) == {
        "ids": "whole numbers 0…29",
        "types": "whole numbers 0…1",
        "mask": "whole numbers 0…1",
        "places": "whole numbers 1…3",
        "x": "standard normal",
    }
    assert [o.shape for o in found.outputs] == [(1, 6, 6), (5, 4), (-1, 1), (-1,)]
