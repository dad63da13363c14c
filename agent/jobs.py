"""What the worker asks of its child processes: one JSON document in, one out, by verb.

Like ``agent.contract``: frozen dataclasses of the standard library, Python 3.8 syntax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from agent.contract import Failure, ModelRef, RuntimeFacts, RuntimeRef, TensorSpec, TrialRequest


@dataclass(frozen=True)
class ConvertJob:
    """Make what ``runtime`` loads out of ``source`` (verb ``convert``), below ``folder``."""

    model: ModelRef
    runtime: RuntimeRef
    source: str
    folder: str
    calibration: str = ""
    dataset: Optional[str] = None
    reference: Optional[str] = None
    seed: int = 0


@dataclass(frozen=True)
class Converted:
    """Answer of ``convert``: ``artifact`` is the file to load (``source`` itself where nothing had
    to be done), ``steps`` the converters that ran, with their versions."""

    artifact: str = ""
    format: str = ""
    size_bytes: int = 0
    steps: Tuple[str, ...] = ()
    seconds: float = 0.0
    status: str = "ok"
    failure: Optional[Failure] = None


@dataclass(frozen=True)
class TrialJob:
    """Measure ``artifact`` (verb ``trial``). Raw samples go to ``folder``/samples.i64."""

    request: TrialRequest
    artifact: str
    artifact_format: str
    artifact_size_bytes: int
    reference: str
    folder: str
    dataset: Optional[str] = None


@dataclass(frozen=True)
class ReferenceJob:
    """Compute the FP32 reference of ``model`` (verb ``reference``) on ``feeds`` seeded inputs, or
    on the first samples of ``dataset`` where there is one; writes ``folder``/reference.npz."""

    model: ModelRef
    source: str
    folder: str
    feeds: int = 4
    seed: int = 0
    dataset: Optional[str] = None


@dataclass(frozen=True)
class Referenced:
    """Answer of ``reference``; ``outputs`` are the tensors that the model really gave."""

    path: str = ""
    outputs: Tuple[TensorSpec, ...] = ()
    origin: str = ""
    top1: Optional[float] = None
    failure: Optional[Failure] = None


@dataclass(frozen=True)
class Probed:
    """Answer of ``probe``: every backend file found, asked under this interpreter."""

    runtimes: Tuple[RuntimeFacts, ...]
