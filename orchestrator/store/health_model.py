"""Reading the health check's model, which ships in the ``inventory`` package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from agent.contract.trial import ModelRef, ReferenceRef, TensorSpec
from orchestrator.domain.health import MODEL

FEEDS = 4
_SIDE, _CHANNELS, _CLASSES = 16, 3, 10
_IMAGE = TensorSpec("x", "float32", (1, _CHANNELS, _SIDE, _SIDE), "NCHW")
_CHANNELS_LAST_IMAGE = TensorSpec("x", "float32", (1, _SIDE, _SIDE, _CHANNELS), "NHWC")
_SCORES = TensorSpec("y", "float32", (1, _CLASSES))


@dataclass(frozen=True)
class Canary:
    """The health check's model in two formats, its reference outputs, and references to them."""

    files: dict[str, bytes]
    outputs: bytes

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """Every file that a check may fetch."""
        return (*self.files.values(), self.outputs)

    @property
    def reference(self) -> ReferenceRef:
        return ReferenceRef(
            digest(self.outputs), len(self.outputs), FEEDS, "computed with numpy in float64"
        )

    def model(self, form: str) -> ModelRef:
        """``form``: ``onnx`` or ``tflite``."""
        data = self.files[form]
        channels_last = form == "tflite"
        return ModelRef(
            name=MODEL,
            format=form,
            sha256=digest(data),
            size_bytes=len(data),
            inputs=(_IMAGE,),
            outputs=(_SCORES,),
            own_inputs=(_CHANNELS_LAST_IMAGE,) if channels_last else (),
            own_outputs=(_SCORES,) if channels_last else (),
            precision="fp32",
        )


@cache
def canary_blobs() -> frozenset[str]:
    """SHA-256 of the files that every farm stores for its health checks."""
    return frozenset(digest(data) for data in canary().blobs)


@cache
def canary() -> Canary:
    folder = files("inventory") / "health"
    found = {form: (folder / f"canary.{form}").read_bytes() for form in ("onnx", "tflite")}
    return Canary(found, (folder / "canary.npz").read_bytes())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
