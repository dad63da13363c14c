"""TensorFlow's five formats as files, and what one process of its interpreter made of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import tensorflow_files, tensorflow_lab
from support.environments import python_of
from support.runner_child import SPEC, require
from support.tensorflow_made import BROKEN, MADE, OPTIONS, TOKENS, VALUES, X

SPECS = [vars(SPEC)]
SEQUENCE_IN = [
    {"name": VALUES, "dtype": "float32", "shape": [1, 4], "layout": ""},
    {"name": TOKENS, "dtype": "int32", "shape": [1, 5], "layout": ""},
]
SEQUENCE_OUT = [
    {"name": f"part {n}", "dtype": "float32", "shape": [1, n + 1], "layout": ""} for n in range(12)
]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("tensorflow")
    return tensorflow_files.build(tmp_path_factory.mktemp("tensorflow"))


def small(**more: Any) -> dict[str, Any]:
    return {"inputs": SPECS, **more}


@pytest.fixture(scope="session")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tensorflow_lab.Tasks:
    """Every converter on the small model, and every format run; one process."""
    np.savez(files / "x.npz", X)
    for name in ("free.keras", "free.h5"):
        (files / f"damaged_{name}").write_bytes((files / name).read_bytes()[:-400])
    (files / "damaged.pb").write_bytes(b"no graph at all")
    (files / "empty.pb").write_bytes(b"")
    shutil.copytree(files / "free", files / "damaged")
    (files / "damaged" / "saved_model.pb").write_bytes(b"no graph at all")
    shutil.copytree(files / "free", files / "bare")
    shutil.rmtree(files / "bare" / "variables")
    run = {"feed": str(files / "x.npz")}
    int8 = {"calibrate": True, "precision": "int8"}
    dynamic = {"precision": "int8", "options": {"quantisation": "dynamic_range"}}
    tasks: tensorflow_lab.Tasks = {
        "exported": small(convert="keras_savedmodel", source=str(files / "free.keras")),
        "exported_h5": small(convert="keras_savedmodel", source=str(files / "free.h5")),
        "as_h5": small(convert="keras_save", source=str(files / "free.keras")),
        "as_keras": small(convert="keras_save", source=str(files / "free.h5")),
        "frozen": {"convert": "tensorflow_freeze", "source": "@exported"},
        "frozen_free": {"convert": "tensorflow_freeze", "source": str(files / "free")},
        "optimised": {"convert": "tensorflow_optimise", "source": "@frozen"},
        "tflite": small(convert="tflite_convert", source=str(files / "free")),
        "tflite_fp16": small(convert="tflite_fp16", source=str(files / "free")),
        "tflite_int8": small(convert="tflite_quantize", source=str(files / "free"), **int8),
        "tflite_per_tensor": small(
            convert="tflite_quantize",
            source=str(files / "free"),
            **{**int8, "options": {"per_channel": "off", "quantised_io": "int8"}},
        ),
        "tflite_dynamic": {
            "convert": "tflite_quantize",
            "source": str(files / "wide"),
            **dynamic,
        },
        "nothing_to_quantise": small(
            convert="tflite_quantize", source=str(files / "free"), **dynamic
        ),
        "onnx_savedmodel": {"convert": "tf2onnx", "source": "@exported"},
        "onnx_frozen": {"convert": "tf2onnx", "source": "@frozen"},
        "onnx_optimised": {"convert": "tf2onnx", "source": "@optimised"},
        "onnx_tflite": {"convert": "tf2onnx", "source": "@tflite"},
        "onnx_tflite_int8": {"convert": "tf2onnx", "source": "@tflite_int8"},
        "onnx_keras": small(convert="keras_onnx", source=str(files / "free.keras")),
        "onnx_h5": small(convert="keras_onnx", source=str(files / "free.h5")),
        "nhwc": {"convert": "keras_savedmodel", "source": str(files / "nhwc.keras")},
        **{f"run_{key}": {"run": f"@{key}", **run} for key in MADE},
        **{
            f"run_{name}": small(run=str(files / name), **run)
            for name in ("free.keras", "free.h5", "free", "fixed")
        },
        **{
            f"run_{name}": small(run=str(files / "free"), **run, options=options)
            for name, options in OPTIONS.items()
        },
        "run_frozen_session": {"run": "@frozen", **run, "options": {"call": "session"}},
        "session_of_keras": small(
            run=str(files / "free.keras"), **run, options={"call": "session"}
        ),
        **{
            f"refused_{name}": small(run=str(files / name), **run)
            for name in ("lambda.keras", "lambda.h5", "own.keras", "reader", "cholesky")
        },
        **{f"broken_{name}": small(run=str(files / name), **run) for name in BROKEN},
        "cholesky_tflite": {"convert": "tflite_convert", "source": str(files / "cholesky")},
        "cholesky_onnx": {"convert": "tf2onnx", "source": str(files / "cholesky")},
        "tftrt": small(convert="tftrt_convert", source=str(files / "free"), precision="fp16"),
    }
    folder = tmp_path_factory.mktemp("lab")
    return tensorflow_lab.work(python_of("tensorflow"), folder, tasks)


@pytest.fixture(scope="session")
def sequence(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tensorflow_lab.Tasks:
    values = np.random.RandomState(3).standard_normal((1, 4)).astype(np.float32)
    np.savez(files / "sequence.npz", values, np.array([[1, 7, 0, 3, 2]], np.int32))
    ports = {"inputs": SEQUENCE_IN, "outputs": SEQUENCE_OUT}
    source = str(files / "sequence.keras")
    run = {"feed": str(files / "sequence.npz")}
    session = {**run, "options": {"call": "session"}}
    tasks: tensorflow_lab.Tasks = {
        "source": {"run": source, "inputs": SEQUENCE_IN, **run},
        "exported": {"convert": "keras_savedmodel", "source": source, **ports},
        "frozen": {"convert": "tensorflow_freeze", "source": "@exported"},
        "optimised": {"convert": "tensorflow_optimise", "source": "@frozen"},
        "tflite": {"convert": "tflite_convert", "source": "@exported"},
        "onnx": {"convert": "tf2onnx", "source": "@exported"},
        "onnx_tflite": {"convert": "tf2onnx", "source": "@tflite"},
        "onnx_keras": {"convert": "keras_onnx", "source": source, **ports},
        "quantised": {
            "convert": "tflite_quantize",
            "source": "@exported",
            "calibrate": True,
            "precision": "int8",
        },
        "run_exported": {"run": "@exported", **run},
        # Two graphs whose loops have the same names cannot be functions of one process.
        "run_frozen": {"run": "@frozen", **run},
        "run_optimised": {"run": "@optimised", **session},
    }
    folder = tmp_path_factory.mktemp("sequence")
    return tensorflow_lab.work(python_of("tensorflow"), folder, tasks)
