"""OpenVINO: one infer request on a tensor that shares the array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openvino


def load(
    model: str, array: Any, threads: int
) -> tuple[Callable[[], object], Callable[[], int], str]:
    core = openvino.Core()
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    properties["INFERENCE_NUM_THREADS"] = str(threads)
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    request.set_input_tensor(openvino.Tensor(array, shared_memory=True))
    return request.infer, lambda: int(request.latency * 1e6), "InferRequest.infer"
