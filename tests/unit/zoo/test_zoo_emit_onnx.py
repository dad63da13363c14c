"""The ONNX emitter: valid, fixed batch, deterministic, conservative."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from orchestrator.zoo import catalogue, emit_keras, emit_onnx, emit_torch
from orchestrator.zoo.builder import NetworkBuilder
from orchestrator.zoo.errors import OperatorNotEmitted, ShapeMismatch
from orchestrator.zoo.network import OPERATORS
from orchestrator.zoo.weights import SeededWeights


def shape(value: onnx.ValueInfoProto) -> list[int]:
    return [size.dim_value for size in value.type.tensor_type.shape.dim]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = emit_onnx.write(catalogue.load("squeezenet1_1", seed=3), tmp_path / "a.onnx")
    again = emit_onnx.write(catalogue.load("squeezenet1_1", seed=3), tmp_path / "b.onnx")
    other = emit_onnx.write(catalogue.load("squeezenet1_1", seed=4), tmp_path / "c.onnx")
    assert first == again != other
    assert first == hashlib.sha256((tmp_path / "a.onnx").read_bytes()).hexdigest()


@pytest.mark.parametrize("batch", [1, 3])
def test_input_and_output_are_named_and_fixed(batch: int) -> None:
    model = emit_onnx.to_model(catalogue.load("mobilenet_v2"), batch)
    assert [(value.name, shape(value)) for value in model.graph.input] == [
        ("input", [batch, 3, 224, 224])
    ]
    assert [(value.name, shape(value)) for value in model.graph.output] == [
        ("output", [batch, 1000])
    ]
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


def test_initialisers_carry_the_parameters_names() -> None:
    network = catalogue.load("resnet18")
    names = [tensor.name for tensor in emit_onnx.to_model(network).graph.initializer]
    assert names == [parameter.name for parameter in network.parameters]


@pytest.mark.parametrize("emitter", [emit_onnx, emit_torch, emit_keras])
def test_every_emitter_knows_every_operator(emitter: ModuleType) -> None:
    assert set(emitter.OPERATORS) == set(OPERATORS)


def test_an_operator_without_a_rule_is_named() -> None:
    builder = NetworkBuilder("odd")
    network = builder.build(builder.relu(builder.input((2,))), weights=SeededWeights())
    odd = replace(network, nodes=(replace(network.nodes[0], op="swish"),))
    with pytest.raises(OperatorNotEmitted, match="relu: the ONNX emitter has no rule for 'swish'"):
        emit_onnx.to_model(odd)


def test_a_batch_is_at_least_one() -> None:
    with pytest.raises(ShapeMismatch, match="batch 0 must be at least 1"):
        emit_onnx.to_model(catalogue.load("squeezenet1_1"), batch=0)
