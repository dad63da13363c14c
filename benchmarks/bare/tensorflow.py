"""TensorFlow: a Keras model as a concrete function on a tensor made beforehand."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.devnull

import tensorflow as tf
from keras.models import load_model


def load(model: str, array: Any, threads: int) -> tuple[Callable[[], object], None, str]:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = load_model(model)
    function = tf.function(lambda x: loaded(x, training=False), autograph=False)
    concrete = function.get_concrete_function(tf.TensorSpec(array.shape, tf.float32))
    tensor = tf.constant(array)
    return lambda: concrete(tensor), None, "ConcreteFunction(tensor)"
