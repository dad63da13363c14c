"""TensorFlow in the common suite; its formats and converters have ``tensorflow_formats``."""

from __future__ import annotations

from pathlib import Path

from support import tensorflow_files
from support.runtime_contract import BackendCase, RuntimeContract


def savedmodels(folder: Path) -> tuple[Path, Path]:
    """The small model as archives of SavedModels: of free batch, and of batch 1."""
    tensorflow_files.build(folder)
    return folder / "free.zip", folder / "fixed.zip"


CONTRACT = RuntimeContract(
    backends=(
        BackendCase("tensorflow", "savedmodel", "tensorflow", ("call", "session"), savedmodels),
    ),
    other_converters=frozenset(
        {
            *("keras_onnx", "keras_save", "keras_savedmodel", "tensorflow_freeze"),
            *("tensorflow_optimise", "tf2onnx", "tflite_convert", "tflite_fp16"),
            *("tflite_quantize", "tftrt_convert"),
        }
    ),
)
