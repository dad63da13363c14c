"""Each conversion is held against the reference before the next one builds on it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.contract.child_jobs import Converted, ConvertJob
from agent.contract.conversion_graph import Edge
from agent.contract.trial import ModelRef, RuntimeRef, TensorSpec
from support.runner_child import (
    SPEC,
    child,
    expected,
    model_of,
    reference_file,
    require,
    write_onnx,
)

WAY = (Edge("onnx_fp16", ("onnx", "fp32"), ("onnx", "fp16")),)
ANY = RuntimeRef("", precision="fp16")
Y = TensorSpec("y", "float32", (1, 5))


@pytest.fixture
def model(tmp_path: Path) -> ModelRef:
    require("onnxruntime")
    return replace(model_of(write_onnx(tmp_path / "m.onnx"), "onnx"), outputs=(Y,))


def convert(model: ModelRef, folder: Path, reference: Path, runtime: RuntimeRef) -> Converted:
    job = ConvertJob(
        model, runtime, str(folder / "m.onnx"), str(folder / "job"), WAY, reference=str(reference)
    )
    return child("onnxruntime", "convert", job, Converted, folder)


def test_a_right_conversion_says_how_near_it_is(model: ModelRef, tmp_path: Path) -> None:
    made = convert(model, tmp_path, reference_file(tmp_path / "r.npz"), ANY)
    assert made.failure is None
    assert re.search(r"checked by onnxruntime, cosine (0\.9999|1\.0)", made.steps[0])


def test_a_wrong_one_names_the_output_and_by_how_much(model: ModelRef, tmp_path: Path) -> None:
    x = np.ones((1, *SPEC.shape), np.float32)
    wrong = expected(x[0])[None] * np.array([1, -1, 1, 1, 1], np.float32)
    reference = tmp_path / "wrong.npz"
    arrays: dict[str, Any] = {"input:x": x, "output:y": wrong}
    np.savez(reference, **arrays)
    made = convert(model, tmp_path, reference, ANY)
    assert made.failure is not None
    assert (made.status, made.failure.kind) == ("invalid", "off_reference")
    assert "onnx_fp16: output y is off the source's: cosine" in made.failure.message


def test_what_a_trial_is_about_to_verify_is_left_to_it(model: ModelRef, tmp_path: Path) -> None:
    runtime = RuntimeRef("onnxruntime", precision="fp16")
    made = convert(model, tmp_path, reference_file(tmp_path / "r.npz"), runtime)
    assert made.failure is None
    assert "checked" not in made.steps[0]
