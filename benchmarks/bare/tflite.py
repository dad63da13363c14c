"""TensorFlow Lite's interpreter, LiteRT's or tflite-runtime's, whichever is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def load(model: str, array: Any, threads: int) -> tuple[Callable[[], object], None, str]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model, num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], array)
    return interpreter._interpreter.Invoke, None, "Interpreter._interpreter.Invoke"
