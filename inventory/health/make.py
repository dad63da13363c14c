"""Writes ``canary.onnx``, ``canary.npz`` and, where TensorFlow is, ``canary.tflite`` beside it.

    python -m inventory.health.make

The network: convolution 3 × 3 of 3 channels to 8, ReLU, convolution 3 × 3 of 8 to 8, ReLU, mean
over the image, product with 8 × 10, bias. 125 000 multiplications on an image of 16 × 16: enough
that a slow processor shows, few enough that a check takes no time. No padding, because frameworks
place it differently. ``canary.npz`` holds ``input:x`` and ``output:y``, each (feeds, *shape): the
outputs are computed here in float64, by no runtime.

The bytes of the ONNX file and of the archive are the same each time; TensorFlow's converter is run
again only to change the network, and its version is in the file.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SIDE, CHANNELS, WIDE, CLASSES, FEEDS = 16, 3, 8, 10, 4
_RANDOM = np.random.RandomState(20250330)


def _drawn(*shape: int, scale: float) -> Any:
    return (_RANDOM.standard_normal(shape) * scale).astype(np.float32)


FIRST, FIRST_BIAS = _drawn(WIDE, CHANNELS, 3, 3, scale=0.3), _drawn(WIDE, scale=0.2)
SECOND, SECOND_BIAS = _drawn(WIDE, WIDE, 3, 3, scale=0.2), _drawn(WIDE, scale=0.2)
DENSE, DENSE_BIAS = _drawn(WIDE, CLASSES, scale=0.5), _drawn(CLASSES, scale=0.2)
IMAGES = _drawn(FEEDS, 1, CHANNELS, SIDE, SIDE, scale=1.0)
"""Kernels as (out, in, height, width), images as NCHW."""


def outputs(images: Any) -> Any:
    """What the network gives on (feeds, 1, 3, 16, 16): (feeds, 1, 10) float32, by float64."""
    given = images[:, 0].astype(np.float64)
    for kernel, bias in ((FIRST, FIRST_BIAS), (SECOND, SECOND_BIAS)):
        windows = np.lib.stride_tricks.sliding_window_view(given, (3, 3), axis=(2, 3))
        summed = np.einsum("fchwij,ocij->fohw", windows, kernel.astype(np.float64))
        given = np.maximum(summed + bias[:, None, None], 0.0)
    dense = given.mean(axis=(2, 3)) @ DENSE.astype(np.float64) + DENSE_BIAS
    return dense[:, None].astype(np.float32)


def onnx_bytes() -> bytes:
    """The network as ONNX: NCHW, opset 13, IR version 7, which runtimes since 2021 load."""
    from onnx import TensorProto, checker, helper, numpy_helper

    weights = {
        "first": FIRST, "first_bias": FIRST_BIAS, "second": SECOND, "second_bias": SECOND_BIAS,
        "dense": DENSE, "dense_bias": DENSE_BIAS,
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "first", "first_bias"], ["c1"], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "second", "second_bias"], ["c2"], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["c2"], ["r2"]),
            helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "dense", "dense_bias"], ["y"]),
        ],
        "canary",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    model.producer_name = "benchfarm"
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def reference_bytes() -> bytes:
    held = io.BytesIO()
    np.savez(held, **{"input:x": IMAGES, "output:y": outputs(IMAGES)})
    return held.getvalue()


def tflite_bytes() -> bytes:
    """The network as TFLite: NHWC, float32. Raises ``ImportError`` without TensorFlow."""
    import tensorflow as tf

    class Canary(tf.Module):  # type: ignore[misc]
        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[tf.TensorSpec([1, SIDE, SIDE, CHANNELS], tf.float32, "x")]
        )
        def __call__(self, x: Any) -> dict[str, Any]:
            for kernel, bias in ((FIRST, FIRST_BIAS), (SECOND, SECOND_BIAS)):
                x = tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), 1, "VALID")
                x = tf.nn.relu(tf.nn.bias_add(x, bias))
            pooled = tf.reduce_mean(x, axis=[1, 2])
            return {"y": tf.nn.bias_add(tf.matmul(pooled, DENSE), DENSE_BIAS)}

    canary = Canary()
    concrete = canary.__call__.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], canary)
    data: bytes = converter.convert()
    return data


def main() -> None:
    made = {"canary.npz": reference_bytes}
    for module, name, make in (
        ("onnx", "canary.onnx", onnx_bytes),
        ("tensorflow", "canary.tflite", tflite_bytes),
    ):
        try:
            __import__(module)
        except ImportError:
            continue
        made[name] = make
    for name, make in made.items():
        (HERE / name).write_bytes(make())


if __name__ == "__main__":
    main()
