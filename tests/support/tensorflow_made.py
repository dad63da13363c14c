"""What ``tensorflow_lab`` is asked for in the tests of TensorFlow's formats, and its answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from support import tensorflow_lab
from support.runner_child import SPEC

X = np.random.RandomState(9).standard_normal(SPEC.shape).astype(np.float32)
VALUES, TOKENS = "b größe 2", "a"
OPTIONS = {
    "session": {"call": "session"},
    "xla": {"xla": "on"},
    "grappler_off": {"grappler": "off"},
}
BROKEN = (
    *("damaged_free.keras", "damaged_free.h5", "damaged.pb", "empty.pb", "damaged", "bare"),
    *("missing.keras", "missing.pb", "missing"),
)
MADE = ("exported", "exported_h5", "as_h5", "as_keras", "frozen", "optimised")
RUNS = (*MADE, "free.keras", "free.h5", "free", "fixed", "frozen_session", *OPTIONS)


def good(made: tensorflow_lab.Tasks, key: str) -> dict[str, Any]:
    result = made[key]
    assert "message" not in result, result
    return result


def output(result: dict[str, Any], number: int = 0) -> Any:
    with np.load(result["result"]) as file:
        return file[f"arr_{number}"]
