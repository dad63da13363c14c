"""Every backend of the common suite. A backend joins by a line in ``CASES``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """``module``: what is imported. ``reshapes_fixed``: a model of fixed batch still takes others.
    ``own_names``: the format names tensors as it likes, so inputs are taken in order.
    ``python``: the interpreter of one runtime of several that the backend is for."""

    backend: str
    form: str
    module: str
    option: tuple[str, str]
    own_latency: bool = False
    reshapes_fixed: bool = False
    own_names: bool = False
    python: str = ""

    @property
    def key(self) -> str:
        return self.python or self.backend


CASES = {
    case.key: case
    for case in (
        Case("onnxruntime", "onnx", "onnxruntime", ("graph_optimization", "disable")),
        Case("openvino", "onnx", "openvino", ("performance_hint", "none"), True, True),
        Case("tensorflow", "savedmodel", "tensorflow", ("call", "session")),
        Case("pytorch", "pt2", "torch", ("mode", "eager"), own_names=True),
        *(
            Case("tflite", "tflite", module, ("xnnpack", "off"), own_names=True, python=python)
            for python, module in (("litert", "ai_edge_litert"), ("tflite", "tflite_runtime"))
        ),
    )
}

ELSEWHERE = {"edgetpu", "executorch", "ncnn", "tensorrt", "tvm"}
"""Tested in files of their own: those of vendors as far as a machine without their hardware goes;
the others load only what their converters make."""
