"""``INTERPRETER -I …/tflite_file.py MODEL.keras OUT.tflite``: by TensorFlow's converter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_HOME"] = os.devnull

import tensorflow as tf
from keras.models import load_model

converter = tf.lite.TFLiteConverter.from_keras_model(load_model(sys.argv[1]))
Path(sys.argv[2]).write_bytes(converter.convert())
