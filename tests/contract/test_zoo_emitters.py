"""Contract of the zoo's emitters: ONNX and PyTorch outputs of one description agree.

PyTorch runs in a runtime environment of its own.
"""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from orchestrator import zoo
from orchestrator.zoo import catalogue, digits, emit_onnx
from orchestrator.zoo.describe import describe
from orchestrator.zoo.network import OPERATORS, Network
from support.environments import python_of
from support.runner_child import require
from support.zoo_networks import (
    Array,
    arrays,
    assert_agree,
    every_operator,
    feed_for,
    onnx_outputs,
)

REPOSITORY = Path(__file__).parents[2]
MAIN = Path(zoo.__file__).with_name("__main__.py")
REFERENCE_FLOPS = 1e9
"""Above this, onnx's reference evaluator takes too long to be run here."""

EAGER = """
import pickle, sys
import numpy, torch
from orchestrator.zoo import emit_torch
folder = sys.argv[1]
with open(folder + "/network.pickle", "rb") as file:
    network = pickle.load(file)
with torch.no_grad():
    given = emit_torch.to_module(network)(torch.from_numpy(numpy.load(folder + "/input.npy")))
outputs = given if isinstance(given, tuple) else (given,)
numpy.savez(folder + "/eager.npz", *[output.numpy() for output in outputs])
"""

PROGRAM = """
import sys
import numpy, torch
folder = sys.argv[1]
program = torch.export.load(folder + "/program.pt2").module()
with torch.no_grad():
    output = program(torch.from_numpy(numpy.load(folder + "/input.npy")))
numpy.savez(folder + "/program.npz", output.numpy())
"""

TRAINING = """
import pickle, sys
import numpy
from orchestrator.zoo import train_digits
from orchestrator.zoo.architectures import digits_cnn
with open(sys.argv[1], "rb") as file:
    data = pickle.load(file)
first, again = (train_digits.train(data, epochs=2) for _ in range(2))
assert all(numpy.array_equal(first.arrays[name], again.arrays[name]) for name in again.arrays)
correct = train_digits.correct_answers(digits_cnn.describe_with(first), data)
assert correct > 0.8 * len(data.labels), correct
"""


def in_pytorch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run under the interpreter with PyTorch; skips without one, or fails where it is required."""
    require("pytorch")
    return subprocess.run(
        [python_of("pytorch"), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def eager_outputs(network: Network, feed: Array, folder: Path) -> list[Array]:
    np.save(folder / "input.npy", feed)
    (folder / "network.pickle").write_bytes(pickle.dumps(network))
    done = in_pytorch("-c", EAGER, str(folder))
    assert done.returncode == 0, done.stderr
    return arrays(folder / "eager.npz")


def test_every_operator_agrees(tmp_path: Path) -> None:
    network = every_operator()
    assert {node.op for node in network.nodes} == set(OPERATORS)
    feed = feed_for(network, batch=3)
    # onnx 1.23's reference evaluator is no judge here: it gives pools that pad one end alone
    # another shape than onnx's own shape inference.
    assert_agree(eager_outputs(network, feed, tmp_path), onnx_outputs(network, feed))


@pytest.mark.parametrize("name", catalogue.names())
def test_both_emitters_agree(name: str, tmp_path: Path) -> None:
    network = catalogue.load(name, seed=1)
    feed = feed_for(network, batch=2)
    assert_agree(eager_outputs(network, feed, tmp_path), onnx_outputs(network, feed))


@pytest.mark.parametrize("name", catalogue.names())
def test_the_exported_program_agrees(name: str, tmp_path: Path) -> None:
    network = catalogue.load(name, seed=1)
    feed = feed_for(network, batch=1)
    np.save(tmp_path / "input.npy", feed)
    program = str(tmp_path / "program.pt2")
    done = in_pytorch("-I", str(MAIN), "emit_torch", name, program, "--seed", "1")
    assert done.returncode == 0, done.stderr
    done = in_pytorch("-c", PROGRAM, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert_agree(arrays(tmp_path / "program.npz"), onnx_outputs(network, feed))


@pytest.mark.parametrize(
    "name",
    [n for n in catalogue.names() if describe(catalogue.load(n)).flops < REFERENCE_FLOPS],
)
def test_onnx_means_what_its_reference_says(name: str) -> None:
    network = catalogue.load(name)
    feed = feed_for(network, batch=1)
    reference = ReferenceEvaluator(emit_onnx.to_model(network))
    assert_agree(onnx_outputs(network, feed), list(reference.run(None, {"input": feed})))


def test_a_wrong_name_exits_with_two_and_lists_the_right_ones(tmp_path: Path) -> None:
    out = tmp_path / "x.pt2"
    done = in_pytorch("-m", "orchestrator.zoo.emit_torch", "resnet19", str(out))
    assert done.returncode == 2
    assert "no architecture 'resnet19'; there are: digits_cnn" in done.stderr
    assert not out.exists()


def test_training_learns_and_is_repeatable(tmp_path: Path) -> None:
    """The digits are read here: scikit-learn, which has them, is not in PyTorch's environment."""
    (tmp_path / "digits.pickle").write_bytes(pickle.dumps(digits.load()))
    done = in_pytorch("-c", TRAINING, str(tmp_path / "digits.pickle"))
    assert done.returncode == 0, done.stderr
