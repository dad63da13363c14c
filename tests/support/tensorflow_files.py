"""Small Keras models and what TensorFlow makes of them, built under its own interpreter."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from support.environments import python_of
from support.runner_child import BIAS, DENSE, KERNEL

BUILD = """
import os, sys, zipfile
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow", KERAS_HOME=os.devnull)
import keras, numpy as np, tensorflow as tf
from keras import layers
folder, weights = sys.argv[1], np.load(sys.argv[2])
os.chdir(folder)
keras.utils.set_random_seed(3)

def zipped(name):
    with zipfile.ZipFile(name + ".zip", "w") as archive:
        for root, _, files in os.walk(name):
            for file in files:
                archive.write(os.path.join(root, file))

# The small model of runner_child: NCHW outside, a convolution in NHWC inside.
x = keras.Input((3, 6, 6), name="x")
h = layers.Permute((2, 3, 1))(x)
conv = layers.Conv2D(4, 3, activation="relu", name="conv")
h = layers.GlobalAveragePooling2D()(conv(h))
dense = layers.Dense(5, use_bias=False, name="y")
small = keras.Model(x, dense(h))
conv.set_weights([weights["kernel"].transpose(2, 3, 1, 0), weights["bias"]])
dense.set_weights([weights["dense"]])
small.save("free.keras")
small.save("free.h5")
for name, batch in (("free", None), ("fixed", 1)):
    signature = [tf.TensorSpec((batch, 3, 6, 6), tf.float32, "x")]
    small.export(name, format="tf_saved_model", input_signature=signature, verbose=False)
    zipped(name)
fixed = keras.Model(*(lambda i: (i, small(i)))(keras.Input((3, 6, 6), batch_size=1, name="x")))
fixed.save("fixed.keras")
fixed.save("fixed.h5")

# The same picture as Keras likes it: NHWC outside too.
picture = keras.Input((6, 6, 3), name="x")
keras.Model(picture, dense(layers.GlobalAveragePooling2D()(conv(picture)))).save("nhwc.keras")

# Weights that are worth quantising: TFLite leaves those of under 1024 values as they are.
row = keras.Input((64,), batch_size=1, name="x")
wide = keras.Model(row, layers.Dense(5)(layers.Dense(64, activation="relu")(row)))
wide.export("wide", format="tf_saved_model", verbose=False)

# Floats and integers, a sequence, twelve outputs (so that names sort otherwise than they stand).
values = keras.Input((4,), name="b größe 2")
tokens = keras.Input((5,), dtype="int32", name="a")
sequence = layers.LSTM(4, name="lstm")(layers.Embedding(8, 4, name="embedding")(tokens))
joined = layers.Concatenate()([values, sequence])
outputs = [layers.Dense(n + 1, name="part %d" % n)(joined) for n in range(12)]
keras.Model([values, tokens], outputs).save("sequence.keras")

squared = layers.Lambda(lambda t: t * t, name="square")
keras.Model(x, squared(x)).save("lambda.keras")
keras.Model(x, squared(x)).save("lambda.h5")

class Own(layers.Layer):
    def call(self, inputs):
        return inputs * 2.0
keras.Model(x, Own()(x)).save("own.keras")

class Matrix(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((1, 2, 2), tf.float32, "x")])
    def __call__(self, x):
        return {"y": tf.linalg.cholesky(tf.matmul(x, x, transpose_b=True) + tf.eye(2))}
module = Matrix()
tf.saved_model.save(module, "cholesky", signatures=module.__call__)

class Reader(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((1, 3), tf.float32, "x")])
    def __call__(self, x):
        size = tf.strings.length(tf.io.read_file("/etc/passwd"))
        return {"y": x + tf.cast(size, tf.float32)}
module = Reader()
tf.saved_model.save(module, "reader", signatures=module.__call__)
zipped("reader")
"""


def build(folder: Path) -> Path:
    """Every file below ``folder``; the seconds of one import of TensorFlow and a few more."""
    weights = folder / "weights.npz"
    np.savez(weights, kernel=KERNEL, bias=BIAS, dense=DENSE)
    command = [python_of("tensorflow"), "-c", BUILD, str(folder), str(weights)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder
