"""Contract of the zoo's Keras emitter: its models, kept and loaded again, give what ONNX gives.

TensorFlow runs in a runtime environment of its own.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import zoo
from orchestrator.zoo import catalogue
from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.network import OPERATORS, Network
from orchestrator.zoo.weights import SeededWeights
from support.cli import Shell
from support.environments import python_of
from support.runner_child import require
from support.zoo_networks import Array, arrays, assert_agree, every_operator, feed_for, onnx_outputs

MAIN = Path(zoo.__file__).with_name("__main__.py")
TOLERANCE = 5e-6
"""Ten times what was seen."""

FIND = f"""
import json, os, pickle, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
sys.path.insert(0, {str(MAIN.parent.parent.parent)!r})
import keras, numpy
from pathlib import Path
from orchestrator.zoo import emit_keras

def run(model, feed):
    given = model(feed, training=False)
    return [numpy.asarray(y) for y in (given if isinstance(given, (list, tuple)) else [given])]
"""

RUN = (
    FIND
    + """
for folder in map(Path, sys.argv[1:]):
    network = pickle.loads((folder / "network.pickle").read_bytes())
    feed = numpy.load(folder / "input.npy")
    model = emit_keras.to_keras(network, len(feed))
    kept = {"eager": model}
    for suffix in emit_keras.SUFFIXES:
        emit_keras.export_keras(network, folder / ("model" + suffix), len(feed))
        kept[suffix[1:]] = keras.models.load_model(folder / ("model" + suffix), safe_mode=True)
    for name, loaded in kept.items():
        numpy.savez(folder / (name + ".npz"), *run(loaded, feed))
    described = {
        "parameters": [loaded.count_params() for loaded in kept.values()],
        "inputs": [list(x.shape) for x in model.inputs],
        "outputs": model.output_names,
        "layers": [(type(layer).__name__, layer.name) for layer in model.layers],
    }
    (folder / "described.json").write_text(json.dumps(described))
"""
)

SAY = (
    FIND
    + """
from orchestrator.zoo.errors import ZooError
for given in sys.argv[1:]:
    network, batch = pickle.loads(Path(given).read_bytes())
    try:
        model = emit_keras.to_keras(network, batch)
    except ZooError as error:
        print(type(error).__name__, error)
    else:
        print(model.name, *(layer.name for layer in model.layers))
"""
)

AGAIN = (
    FIND
    + """
folder = Path(sys.argv[1])
for name in ("again.keras", "first.h5", "again.h5"):
    assert emit_keras.main(["digits_cnn", str(folder / name), "--batch", "3"]) == 0
for suffix in ("keras", "h5"):
    model = keras.models.load_model(folder / ("first." + suffix), safe_mode=True)
    numpy.savez(folder / (suffix + ".npz"), *run(model, numpy.load(folder / "input.npy")))
"""
)


def in_tensorflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run under the interpreter with TensorFlow; skips without one, or fails where required."""
    require("tensorflow")
    return subprocess.run(
        [python_of("tensorflow"), "-I", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def channels_last(array: Array) -> Array:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def channels_first(array: Array) -> Array:
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def check(cases: list[tuple[Network, int]], folder: Path) -> list[dict[str, Any]]:
    """Emit, keep and load each network at its batch, and compare with ONNX Runtime; what the models
    say of themselves."""
    folders = [folder / str(number) for number in range(len(cases))]
    for (network, batch), place in zip(cases, folders, strict=True):
        place.mkdir()
        (place / "network.pickle").write_bytes(pickle.dumps(network))
        np.save(place / "input.npy", channels_last(feed_for(network, batch)))
    done = in_tensorflow("-c", RUN, *map(str, folders))
    assert done.returncode == 0, done.stderr
    described = []
    for (network, batch), place in zip(cases, folders, strict=True):
        expected = onnx_outputs(network, feed_for(network, batch))
        for kept in ("eager", "keras", "h5"):
            found = [channels_first(array) for array in arrays(place / f"{kept}.npz")]
            assert_agree(found, expected, TOLERANCE)
        said = json.loads((place / "described.json").read_text())
        assert said["parameters"] == [network.parameter_count] * 3
        channels, *size = network.inputs[0].shape
        assert said["inputs"] == [[batch, *size, channels]]
        described.append(said)
    return described


def kinds(said: dict[str, Any]) -> list[str]:
    return [kind for kind, _ in said["layers"]]


@pytest.mark.parametrize("name", catalogue.names())
def test_every_architecture_agrees(name: str, tmp_path: Path) -> None:
    (said,) = check([(catalogue.load(name, seed=1), 2)], tmp_path)
    assert said["outputs"] == ["output"]
    assert "Permute" not in kinds(said)
    assert all(layer.replace("_", "a").isalnum() for _, layer in said["layers"])


def test_seeds_and_batches_agree(tmp_path: Path) -> None:
    digits = catalogue.load("digits_cnn")
    assert digits.parameter_count == 119_652
    cases = [(digits, batch) for batch in (1, 2, 7)]
    check(cases + [(catalogue.load("squeezenet1_1", seed), 1) for seed in (0, 2, 5)], tmp_path)


def windows(builder: NetworkBuilder) -> Network:
    """Convolutions and pools that Keras's own settings do not say."""
    x = builder.input((4, 19, 22))
    x = builder.conv("strided_dilated", x, 8, 3, stride=2, dilation=2, padding=2)
    x = builder.conv("doubling", x, 16, 3, padding=1, groups=8)
    x = builder.conv("unequal", x, 16, 3, stride=(2, 1), padding="same", groups=16)
    after_relu = builder.max_pool(builder.relu(x), 3, stride=2, padding=1)
    cropped = builder.max_pool(x, 5, stride=2, padding=1)
    mean = builder.avg_pool(x, 5, stride=2, padding=1)
    y = builder.relu6(builder.conv("narrow", builder.concat(cropped, mean), 16, 1))
    flat = builder.concat(
        builder.flatten(builder.max_pool(after_relu, 2, stride=1)), builder.flatten(y)
    )
    return builder.build(builder.dense("out", flat, 5), weights=SeededWeights(3))


def orders(builder: NetworkBuilder) -> Network:
    """Flattened features that dense layers read by way of others, and joined with plain ones."""
    x = builder.conv("first", builder.input((2, 5, 4)), 6, 3, padding=1)
    plain = builder.dense("plain", builder.flatten(builder.global_avg_pool(x)), 3)
    joined = builder.concat(plain, builder.relu(builder.flatten(x)), builder.flatten(x))
    return builder.build(builder.dense("out", joined, 5), weights=SeededWeights(4))


def ends(builder: NetworkBuilder) -> Network:
    """Flattened features and an image that leave the network as they are."""
    x = builder.conv("first", builder.input((2, 5, 4)), 6, 3, padding=1)
    flat = builder.flatten(x)
    total = builder.add(flat, builder.flatten(builder.relu(x)))
    return builder.build(
        x, builder.relu(flat), builder.dense("out", total, 3), weights=SeededWeights(5)
    )


def names(builder: NetworkBuilder) -> Network:
    """Names that no TensorFlow scope takes, or that become one."""
    x = builder.input((1, 6, 6), name="größe/x")
    x = builder.conv("a.b", x, 2, 4, stride=2, padding=2)
    x = builder.conv("_a_b", x, 2, 4, stride=2, padding=2)
    x = builder.conv("a b_pad", x, 2, 1)
    return builder.build(builder.conv("a_b", x, 2, 1), x, weights=SeededWeights(6))


def test_every_operator_agrees(tmp_path: Path) -> None:
    assert {node.op for node in every_operator().nodes} == set(OPERATORS)
    cases = [(every_operator(seed), batch) for seed in (0, 1, 2) for batch in (1, 3)]
    check(cases, tmp_path)


def test_what_keras_says_in_its_own_way_agrees(tmp_path: Path) -> None:
    networks = (
        windows(NetworkBuilder("windows")),
        orders(NetworkBuilder("orders")),
        ends(NetworkBuilder("ends")),
    )
    of_windows, of_orders, of_ends = check([(network, 2) for network in networks], tmp_path)
    assert {"ZeroPadding2D", "Cropping2D", "DepthwiseConv2D"} <= set(kinds(of_windows))
    assert "Permute" not in kinds(of_windows) + kinds(of_orders)
    # One flattening for what leaves the network, one for each that is added up.
    assert kinds(of_ends).count("Permute") == 2


def say(cases: list[tuple[Network, int]], folder: Path) -> list[str]:
    """The names of each emitted model and its layers, or why it is refused."""
    paths = [folder / f"{number}.pickle" for number in range(len(cases))]
    for case, path in zip(cases, paths, strict=True):
        path.write_bytes(pickle.dumps(case))
    done = in_tensorflow("-c", SAY, *map(str, paths))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_names_are_such_as_a_scope_takes_and_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    builder = NetworkBuilder("wide")
    wide = builder.max_pool(builder.input((1, 6, 6)), 3, stride=2, padding=2, name="wide")
    odd = replace(every_operator(), nodes=(replace(every_operator().nodes[0], op="swish"),))
    cases = [
        (names(NetworkBuilder("odd names")), 1),
        (builder.build(wide, weights=SeededWeights()), 1),
        (odd, 1),
        (catalogue.load("digits_cnn"), 0),
    ]
    named, pooled, unknown, empty = say(cases, tmp_path)
    assert named == "odd_names gr__e_x a_b_pad_2 a_b n_a_b_pad n_a_b a_b_pad a_b_2"
    assert pooled.startswith("OperatorNotEmitted wide: no Keras layer pads a (3, 3) max_pool")
    assert unknown == "OperatorNotEmitted strided: no Keras rule for 'swish'"
    assert empty == "ShapeMismatch digits_cnn: batch 0 must be at least 1"


def test_an_exported_file_is_the_same_each_time_and_agrees(tmp_path: Path) -> None:
    network = catalogue.load("digits_cnn")
    feed = feed_for(network, 3)
    first = tmp_path / "first.keras"
    done = in_tensorflow(str(MAIN), "emit_keras", "digits_cnn", str(first), "--batch", "3")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [first]
    np.save(tmp_path / "input.npy", channels_last(feed))
    done = in_tensorflow("-c", AGAIN, str(tmp_path))
    assert done.returncode == 0, done.stderr
    for form in ("keras", "h5"):
        same = [(tmp_path / f"{name}.{form}").read_bytes() for name in ("first", "again")]
        assert same[0] == same[1]
        assert_agree(arrays(tmp_path / f"{form}.npz"), onnx_outputs(network, feed), TOLERANCE)


def test_the_command_finds_the_local_agents_environment(tmp_path: Path) -> None:
    require("tensorflow")
    python = python_of("tensorflow")
    listed = [
        {"name": "old", "backend": "tensorflow", "version": "2.9.0", "python": "/none/python"},
        {"name": "new", "backend": "tensorflow", "version": "2.21.0", "python": python},
    ]
    home, out = tmp_path / "home", tmp_path / "out"
    (home / "agent").mkdir(parents=True)
    (home / "agent" / "environments.json").write_text(json.dumps(listed))
    shell = Shell(home, {k: v for k, v in os.environ.items() if not k.startswith("BENCHFARM_")})
    build = ("--home", home, "zoo", "build", "digits_cnn", "--format", "keras", "--format", "h5")
    printed = shell.fine(*build, "--output", out)
    made = [out / f"digits_cnn.{form}" for form in ("onnx", "keras", "h5")]
    assert printed.split() == [str(path) for path in made]
    assert sorted(out.iterdir()) == sorted(made)


@pytest.mark.parametrize(
    ("name", "file", "says"),
    [
        ("resnet19", "x.keras", "no architecture 'resnet19'; there are: digits_cnn"),
        ("digits_cnn", "x.pb", "x.pb: Keras models are written as .keras or .h5, not as .pb"),
        ("digits_cnn", "x", "x: Keras models are written as .keras or .h5, not as a file without"),
        ("digits_cnn", "x.h5", "`benchfarm-agent runtimes add tensorflow` builds an environment"),
    ],
)
def test_a_wrong_request_exits_with_two_and_leaves_nothing(
    name: str, file: str, says: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-I", str(MAIN), "emit_keras", name, str(tmp_path / file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []
