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
_LAST = TensorSpec("x", "float32", (1, _SIDE, _SIDE, _CHANNELS), "NHWC")
_SCORES = TensorSpec("y", "float32", (1, _CLASSES))


@dataclass(frozen=True)
class Canary:
    """The files' bytes, and how a trial refers to them; both files take and give the same."""

    files: dict[str, bytes]
    outputs: bytes

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """All that a board has to fetch for a check."""
        return (*self.files.values(), self.outputs)

    @property
    def reference(self) -> ReferenceRef:
        return ReferenceRef(
            digest(self.outputs), len(self.outputs), FEEDS, "computed with numpy in float64"
        )

    def model(self, form: str) -> ModelRef:
        """``form``: ``onnx`` or ``tflite``."""
        data = self.files[form]
        other = form == "tflite"
        return ModelRef(
            name=MODEL,
            format=form,
            sha256=digest(data),
            size_bytes=len(data),
            inputs=(_IMAGE,),
            outputs=(_SCORES,),
            own_inputs=(_LAST,) if other else (),
            own_outputs=(_SCORES,) if other else (),
            precision="fp32",
        )


@cache
def own_blobs() -> frozenset[str]:
    """SHA-256 of what every farm has for its health checks, whichever of it a board takes."""
    return frozenset(digest(data) for data in canary().blobs)


@cache
def canary() -> Canary:
    folder = files("inventory") / "health"
    found = {form: (folder / f"canary.{form}").read_bytes() for form in ("onnx", "tflite")}
    return Canary(found, (folder / "canary.npz").read_bytes())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
