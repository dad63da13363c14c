"""Every architecture of the catalogue: published sizes, sane activations, reproducible bytes."""

from __future__ import annotations

import sys
from subprocess import run

import numpy as np
import onnx
import onnxruntime
import pytest

from orchestrator.zoo import catalogue, emit_onnx
from orchestrator.zoo.describe import describe
from orchestrator.zoo.errors import UnknownArchitecture
from orchestrator.zoo.network import Network

# torchvision's documented parameter counts and multiply-accumulates in 1e9 ("GFLOPS" there).
TORCHVISION = {
    "mobilenet_v2": (3_504_872, 0.301),
    "resnet18": (11_689_512, 1.814),
    "resnet50": (25_557_032, 4.089),
    "squeezenet1_1": (1_235_496, 0.349),
}


def convolution_outputs(network: Network) -> int:
    return sum(node.shape[0] for node in network.nodes if node.op == "conv")


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_sizes_are_the_published_ones(name: str) -> None:
    network = catalogue.load(name)
    published, giga_macs = TORCHVISION[name]
    # A batch norm has a scale and a shift for each channel, a folded one a bias: one less. Every
    # convolution of these networks is normalised, but for SqueezeNet, where none is.
    folded = 0 if name == "squeezenet1_1" else convolution_outputs(network)
    assert network.parameter_count + folded == published
    assert round(describe(network).flops / 2e9, 3) == giga_macs


def test_digits_cnn_has_the_published_layers() -> None:
    network = catalogue.load("digits_cnn")
    sizes = [sum(p.size for p in node.parameters) for node in network.nodes if node.parameters]
    assert sizes == [250, 14_464, 36_928, 65_600, 2_080, 330]
    assert sum(sizes) == 119_652
    pools = [node.shape[1:] for node in network.nodes if node.op == "max_pool"]
    assert pools == [(14, 14), (7, 7), (4, 4)]


@pytest.mark.parametrize("name", catalogue.names())
def test_the_catalogue_tells_the_truth(name: str) -> None:
    network, info = catalogue.load(name), catalogue.info(name)
    assert info.name == network.name == name
    assert info.parameters == network.parameter_count
    assert info.input_shape == network.inputs[0].shape
    assert info.trained == (info.dataset is not None)
    assert len(info.description) > 20
    if info.dataset:
        with np.load(catalogue.dataset_path(info.dataset)) as data:
            assert data["inputs"].shape[1:] == info.input_shape


@pytest.mark.parametrize("name", sorted(TORCHVISION))
@pytest.mark.parametrize("kind", ["normal", "unit"])
def test_activations_neither_explode_nor_vanish(name: str, kind: str) -> None:
    """Within a factor of three of unit scale at every layer, and no denormals anywhere."""
    network = catalogue.load(name)
    model = emit_onnx.to_model(network)
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(node.name, onnx.TensorProto.FLOAT, (1, *node.shape))
        for node in network.nodes[:-1]
    )
    state = np.random.RandomState(0)
    shape = (1, *network.inputs[0].shape)
    feed = state.standard_normal(shape) if kind == "normal" else state.random_sample(shape)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values = session.run(None, {"input": feed.astype(np.float32)})
    operators = ["conv", *(node.op for node in network.nodes[:-1])]
    for operator, value in zip(operators, values, strict=True):
        size = np.abs(value)
        assert not ((size > 0) & (size < 1e-30)).any()
        assert size.max() < 100
        if operator == "conv":
            assert 0.2 < np.sqrt(np.mean(np.square(value))) < 3.0


def test_names_are_modules() -> None:
    expected = {"digits_cnn", "mobilenet_v2", "resnet18", "resnet50", "squeezenet1_1"}
    assert expected <= set(catalogue.names())
    assert catalogue.names() == sorted(catalogue.names())


@pytest.mark.parametrize("name", ["resnet19", "", "__init__", "../digits"])
def test_an_unknown_name_lists_those_that_exist(name: str) -> None:
    with pytest.raises(UnknownArchitecture, match=r"there are: digits_cnn, .*resnet18"):
        catalogue.load(name)
    with pytest.raises(UnknownArchitecture, match="there are: digits"):
        catalogue.dataset_path(name)


def test_listing_the_zoo_imports_no_framework() -> None:
    """Its modules also run where only some of the frameworks are installed."""
    program = (
        "import sys; from orchestrator.zoo import catalogue, emit_onnx, emit_torch, train_digits;"
        "[catalogue.info(n) for n in catalogue.names()]; catalogue.load('resnet18');"
        "print({'onnx', 'torch', 'sklearn', 'onnxruntime'} & set(sys.modules))"
    )
    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
