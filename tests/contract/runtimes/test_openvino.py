"""OpenVINO in the common suites, and the options of NNCF's converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.trial import RuntimeRef
from support.runner_child import (
    Bench,
    dataset_file,
    model_of,
    reference_file,
    require,
    write_onnx,
)
from support.runtime_contract import BackendCase, ConverterCase, RuntimeContract

_FILES = frozenset({"model.xml", "model.bin"})
CONTRACT = RuntimeContract(
    backends=(
        BackendCase(
            *("openvino", "onnx", "openvino", ("performance_hint", "none")),
            own_latency=True,
            reshapes_fixed=True,
        ),
    ),
    converters=(
        ConverterCase("openvino_fp16", "openvino", "fp16", "openvino_ir", _FILES),
        ConverterCase(
            *("nncf_quantize", "openvino", "int8", "openvino_ir", _FILES), calibrated=True
        ),
    ),
    other_converters=frozenset({"openvino_convert"}),
)


@pytest.mark.parametrize(
    ("options", "words", "channels"),
    [
        ({}, "preset performance, weights per channel", 4),
        ({"preset": "mixed"}, "preset mixed, weights per channel", 4),
        ({"per_channel": "off"}, "preset performance, weights per tensor", 1),
    ],
)
def test_nncf_quantises_as_the_options_say(
    tmp_path: Path, options: dict[str, Any], words: str, channels: int
) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    require("openvino")
    (tmp_path / "job").mkdir()
    bench = Bench("openvino", tmp_path / "job")
    source = write_onnx(tmp_path / "m.onnx")
    model = model_of(source, "onnx")
    runtime = RuntimeRef("openvino", precision="int8", threads=1, options=options)
    dataset = dataset_file(tmp_path / "dataset.npz")
    made = bench.convert(model, runtime, source, calibration="dataset", dataset=str(dataset))
    assert made.failure is None
    assert words in made.steps[0]
    operators = openvino.Core().read_model(made.artifact).get_ops()
    (weights,) = (op for op in operators if "conv/WithoutBiases/fq" in str(op.get_friendly_name()))
    assert int(np.prod(tuple(weights.input_value(1).get_shape()))) == channels  # its scales
    reference = reference_file(tmp_path / "reference.npz")
    found = bench.trial(model, runtime, Path(made.artifact), reference, form=made.format)
    assert found.failure is None
    assert found.fidelity is not None
    assert found.fidelity.passed
